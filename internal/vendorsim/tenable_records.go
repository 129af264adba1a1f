package vendorsim

import "strings"

// Specs describes the streams. The key of a finding is its finding_id, that of
// an asset its id, that of a compliance result asset_uuid/check_id, and that of
// a finding in a scan report scan_id/uri.
func (t *Tenable) Specs(g Gen) []Spec {
	m := newTenableModel(g)
	t.model = m
	return []Spec{
		{
			Name: TenableVulns, Count: 1000, Bytes: 3500, HugeBytes: 600 << 10, Templates: vulnTemplates,
			Slots: m.findingSlots(), ID: findingID,
		},
		{Name: TenableAssets, Count: 500, Bytes: 2600, HugeBytes: 600 << 10, Templates: assetTemplates, Slots: m.assetSlots(), ID: m.assetID},
		{
			Name: TenableAssetsV2, Count: 500, CountOf: TenableAssets, Bytes: 2000, HugeBytes: 600 << 10, Templates: assetV2Templates,
			Slots: m.assetSlots(), ID: m.assetID,
		},
		{
			Name: TenableFindings, Count: 1000, Bytes: 2500, HugeBytes: 600 << 10, Templates: complianceTemplates,
			Slots: m.findingSlots(),
			ID: func(dst []byte, r Rec) []byte {
				dst = AppendUUID(dst, m.asset(assetOf(r.Index)).hash)
				return AppendHex(append(dst, '/'), r.Hash, 16)
			},
		},
		{
			Name: TenableWAS, Count: 200, Bytes: 3100, HugeBytes: 600 << 10, Templates: webAppTemplates,
			Slots: m.findingSlots(),
			ID: func(dst []byte, r Rec) []byte {
				dst = append(dst, m.targetScanID(r.Index/findingsPerReport)...)
				return AppendInt(append(dst, "/https://app.example.test/page/"...), int64(r.Index))
			},
		},
		{
			Name: TenableWASBulk, Count: 200, Bytes: 2500, HugeBytes: 600 << 10, Templates: webAppBulkTemplates,
			Slots: m.findingSlots(), ID: findingID,
		},
	}
}

// findingID appends the finding_id of a record.
func findingID(dst []byte, r Rec) []byte { return AppendUUID(dst, r.Hash) }

func (t tenableModel) assetID(dst []byte, r Rec) []byte {
	return AppendUUID(dst, t.asset(r.Index).hash)
}

// findingSlots returns the slots of all kinds of findings.
func (t tenableModel) findingSlots() map[string]Slot {
	at := func(suffix string, pick func(findingFacts) int64) Slot {
		return func(dst []byte, r Rec) []byte { return AppendUnix(dst, pick(t.finding(r.Index, r.Hash)), suffix) }
	}
	return map[string]Slot{
		"finding":    findingID,
		"asset_uuid": func(dst []byte, r Rec) []byte { return AppendUUID(dst, t.asset(assetOf(r.Index)).hash) },
		"host":       func(dst []byte, r Rec) []byte { return appendHostName(dst, assetOf(r.Index)) },
		"ipv4":       func(dst []byte, r Rec) []byte { return appendIPv4(dst, assetOf(r.Index)) },
		"n":          func(dst []byte, r Rec) []byte { return AppendInt(dst, int64(r.Index)) },
		"plugin":     func(dst []byte, r Rec) []byte { return AppendInt(dst, int64(900000+r.Hash>>20%90000)) },
		"cve":        func(dst []byte, r Rec) []byte { return appendFoundCVE(dst, r.Hash) },
		"port":       func(dst []byte, r Rec) []byte { return AppendInt(dst, int64(1+r.Hash>>24%65535)) },
		"check":      func(dst []byte, r Rec) []byte { return AppendHex(dst, r.Hash, 16) },
		"result":     func(dst []byte, r Rec) []byte { return append(dst, complianceResult(r.Hash)...) },
		"scan":       appendScanID,
		"severity": func(dst []byte, r Rec) []byte {
			return append(dst, lowerSeverities[severityOf[r.Hash>>8%10]]...)
		},
		"severity_upper": func(dst []byte, r Rec) []byte { return append(dst, severityNames[severityOf[r.Hash>>8%10]]...) },
		"severity_id":    func(dst []byte, r Rec) []byte { return AppendInt(dst, int64(severityOf[r.Hash>>8%10])) },
		"state":          func(dst []byte, r Rec) []byte { return append(dst, t.finding(r.Index, r.Hash).state...) },
		"first":          at("Z", func(f findingFacts) int64 { return f.first }),
		"last":           at("Z", func(f findingFacts) int64 { return f.last }),
		"indexed":        at(".000Z", func(f findingFacts) int64 { return f.indexed }),
		"fixed_at": func(dst []byte, r Rec) []byte {
			return appendTimeOrNull(dst, t.finding(r.Index, r.Hash).fixed, "Z")
		},
		"fixed": func(dst []byte, r Rec) []byte {
			if f := t.finding(r.Index, r.Hash); f.fixed > 0 {
				dst = appendTimeOrNull(append(dst, `,"last_fixed":`...), f.fixed, "Z")
			}
			return dst
		},
	}
}

var lowerSeverities = func() (out []string) {
	for _, s := range severityNames {
		out = append(out, strings.ToLower(s))
	}
	return out
}()

// appendScanID appends a scan uuid, which has 52 characters.
func appendScanID(dst []byte, r Rec) []byte {
	dst = AppendUUID(dst, mixBits(r.Hash>>32%64))
	return AppendHex(dst, mixBits(r.Hash>>32%64+1), 16)
}

// assetSlots returns the slots of assets in both versions.
func (t tenableModel) assetSlots() map[string]Slot {
	at := func(pick func(assetFacts) int64) Slot {
		return func(dst []byte, r Rec) []byte { return AppendUnix(dst, pick(t.asset(r.Index)), ".000Z") }
	}
	orNull := func(pick func(assetFacts) int64) Slot {
		return func(dst []byte, r Rec) []byte { return appendTimeOrNull(dst, pick(t.asset(r.Index)), ".000Z") }
	}
	return map[string]Slot{
		"asset":      t.assetID,
		"host":       func(dst []byte, r Rec) []byte { return appendHostName(dst, r.Index) },
		"ipv4":       func(dst []byte, r Rec) []byte { return appendIPv4(dst, r.Index) },
		"scan":       appendScanID,
		"created":    at(func(a assetFacts) int64 { return a.created }),
		"updated":    at(func(a assetFacts) int64 { return a.updated }),
		"deleted":    orNull(func(a assetFacts) int64 { return a.deleted }),
		"terminated": orNull(func(a assetFacts) int64 { return a.terminated }),
		"licensed": func(dst []byte, r Rec) []byte {
			if t.asset(r.Index).licensed {
				return append(dst, "true"...)
			}
			return append(dst, "false"...)
		},
		"type": func(dst []byte, r Rec) []byte {
			if t.asset(r.Index).webapp {
				return append(dst, "webapp"...)
			}
			return append(dst, "host"...)
		},
		"gone": func(dst []byte, r Rec) []byte {
			a := t.asset(r.Index)
			if a.deleted > 0 {
				dst = appendTimeOrNull(append(dst, `,"deleted_at":`...), a.deleted, ".000Z")
			}
			if a.terminated > 0 {
				dst = appendTimeOrNull(append(dst, `,"terminated_at":`...), a.terminated, ".000Z")
			}
			return dst
		},
	}
}
