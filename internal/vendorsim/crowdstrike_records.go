package vendorsim

import "time"

// Specs describes the streams.
func (c *CrowdStrike) Specs(Gen) []Spec {
	return []Spec{
		{
			Name: CrowdStrikeHosts, Count: 2000, Bytes: 3500, HugeBytes: 96 << 10,
			Templates: crowdstrikeHostTemplates, Slots: c.hostSlots(),
			ID: func(dst []byte, r Rec) []byte { return c.model.appendAID(dst, r.Index) },
		},
		{
			Name: CrowdStrikeVulns, Count: 20000, Bytes: 2000, HugeBytes: 96 << 10,
			Templates: crowdstrikeVulnTemplates, Slots: c.vulnSlots(),
			ID: func(dst []byte, r Rec) []byte { return c.model.appendVulnID(dst, r) },
		},
		{
			Name: CrowdStrikeZTA, Count: 2000, CountOf: CrowdStrikeHosts, Bytes: 6500, HugeBytes: 96 << 10,
			Templates: crowdstrikeZTATemplates, Slots: c.ztaSlots(),
			ID: func(dst []byte, r Rec) []byte { return c.model.appendAID(dst, r.Index) },
		},
	}
}

const crowdstrikeCID = "ffffffffffffffffffffffffffffffff"

func (c *CrowdStrike) hostSlots() map[string]Slot {
	return map[string]Slot{
		"aid":      func(dst []byte, r Rec) []byte { return c.model.appendAID(dst, r.Index) },
		"hostname": func(dst []byte, r Rec) []byte { return appendHostname(dst, r.Index) },
		"platform": func(dst []byte, r Rec) []byte { return append(dst, c.model.hostPlatform(r.Index)...) },
		"seen": func(dst []byte, r Rec) []byte {
			return appendCrowdStrikeTime(dst, c.model.hostSeen(r.Index))
		},
		"assigned": func(dst []byte, r Rec) []byte {
			return c.model.hostSeen(r.Index).Add(-time.Duration(r.Hash%1e15)).AppendFormat(dst, "2006-01-02T15:04:05.000000000Z")
		},
		"octet": func(dst []byte, r Rec) []byte { return AppendInt(dst, int64(r.Hash>>8%254+1)) },
		"hash":  func(dst []byte, r Rec) []byte { return AppendHex(dst, r.Hash, 8) },
	}
}

var crowdstrikeHostTemplates = []string{
	`{"device_id":"<<aid>>","cid":"` + crowdstrikeCID + `","agent_load_flags":"0","agent_local_time":"<<seen>>","agent_version":"7.18.17106.0",` +
		`"bios_manufacturer":"Example","config_id_base":"65994763","external_ip":"203.0.113.<<octet>>","local_ip":"10.1.2.<<octet>>","mac_address":"00-11-22-33-44-55",` +
		`"hostname":"<<hostname>>","first_seen":"2024-11-01T00:00:00Z","last_seen":"<<seen>>","major_version":"10","platform_id":"0","platform_name":"<<platform>>",` +
		`"policies":[{"policy_type":"prevention","policy_id":"aa11<<hash>>","applied":true,"settings_hash":"9f","assigned_date":"<<assigned>>","applied_date":null,"rule_groups":[]}],` +
		`"device_policies":{"sensor_update":{"policy_type":"sensor-update","policy_id":"bb22","applied":true,"uninstall_protection":"ENABLED"},` +
		`"vulnerability-management":{"policy_type":"vulnerability-management","policy_id":"cc33","applied":false}},` +
		`"groups":[],"tags":["SensorGroupingTags/lab"],"notes":["<<text>>"],"pointer_size":"8","reduced_functionality_mode":"no","status":"normal",` +
		`"modified_timestamp":"<<seen>>","meta":{"version":"4711"}<<edge>>}`,
	`{"device_id":"<<aid>>","cid":"` + crowdstrikeCID + `","agent_version":"7.21.0","external_ip":"198.51.100.<<octet>>","hostname":"<<hostname>>",` +
		`"first_seen":"2025-01-12T07:00:00Z","last_seen":"<<seen>>","platform_id":"3","platform_name":"<<platform>>","device_policies":{},"groups":["<<hash>>"],"tags":[],` +
		`"kernel_version":"<<text>>","status":"normal","modified_timestamp":"<<seen>>","meta":{"version":"12","version_string":"1:9223372036854775807"}<<edge>>}`,
}

func (c *CrowdStrike) vulnSlots() map[string]Slot {
	return map[string]Slot{
		"id":       func(dst []byte, r Rec) []byte { return c.model.appendVulnID(dst, r) },
		"aid":      func(dst []byte, r Rec) []byte { return c.model.appendAID(dst, c.model.hostOf(r)) },
		"hostname": func(dst []byte, r Rec) []byte { return appendHostname(dst, c.model.hostOf(r)) },
		"platform": func(dst []byte, r Rec) []byte { return append(dst, c.model.hostPlatform(c.model.hostOf(r))...) },
		"cve":      func(dst []byte, r Rec) []byte { return c.model.appendCVE(dst, r) },
		"severity": func(dst []byte, r Rec) []byte { return append(dst, c.model.findingSeverity(r)...) },
		"status":   func(dst []byte, r Rec) []byte { return append(dst, c.model.findingStatus(r)...) },
		"created": func(dst []byte, r Rec) []byte {
			return appendCrowdStrikeTime(dst, c.model.findingCreated(r.Index))
		},
		"updated": func(dst []byte, r Rec) []byte { return appendCrowdStrikeTime(dst, c.model.findingUpdated(r)) },
		"closed": func(dst []byte, r Rec) []byte {
			if c.model.findingStatus(r) != "closed" {
				return dst
			}
			dst = append(dst, `"closed_timestamp":"`...)
			return append(appendCrowdStrikeTime(dst, c.model.findingUpdated(r)), `",`...)
		},
		"score": func(dst []byte, r Rec) []byte {
			if tenth := r.Hash >> 50 % 101; tenth%10 != 0 {
				return AppendInt(append(AppendInt(dst, int64(tenth/10)), '.'), int64(tenth%10))
			} else { // a whole score is written as an integer
				return AppendInt(dst, int64(tenth/10))
			}
		},
		"published": func(dst []byte, r Rec) []byte {
			return appendCrowdStrikeTime(dst, c.model.g.Base.Add(-time.Duration(r.Hash>>40%60000)*time.Hour).Truncate(24*time.Hour))
		},
		"exploit": func(dst []byte, r Rec) []byte { return AppendInt(dst, int64(r.Hash>>55%4*30)) },
		"kb":      func(dst []byte, r Rec) []byte { return AppendInt(append(dst, "KB"...), int64(5000000+r.Hash>>44%9999)) },
	}
}

var crowdstrikeVulnTemplates = []string{
	`{"id":"<<id>>","cid":"` + crowdstrikeCID + `","aid":"<<aid>>","vulnerability_id":"<<cve>>","data_providers":[{"provider":"Falcon sensor"}],` +
		`"created_timestamp":"<<created>>","updated_timestamp":"<<updated>>",<<closed>>"status":"<<status>>","confidence":"confirmed",` +
		`"apps":[{"vendor_normalized":"Example","product_name_version":"Viewer 1.2","sub_status":"open","remediation":{"ids":["r1"]},` +
		`"evaluation_logic":{"id":"e1"},"remediation_info":{"recommended_id":"r1","minimum_id":""}}],"suppression_info":{"is_suppressed":false},` +
		`"cve":{"id":"<<cve>>","base_score":<<score>>,"severity":"<<severity>>","exploit_status":<<exploit>>,"exprt_rating":"MEDIUM","remediation_level":"O","published_date":"<<published>>","exploitability_score":1.8,` +
		`"cisa_info":{"is_cisa_kev":false},"types":["Vulnerability"],"references":[],"description":"<<text>>","vector":"CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H"},` +
		`"host_info":{"hostname":"<<hostname>>","platform":"<<platform>>","groups":[{"id":"g1","name":"Lab"}],"tags":[],"ou":null},` +
		`"remediation":{"ids":["r1"],"entities":[{"id":"r1","reference":"<<kb>>","title":"Update Viewer","action":"Install 1.3","link":"","vendor_url":""}]}<<edge>>}`,
	`{"id":"<<id>>","cid":"` + crowdstrikeCID + `","aid":"<<aid>>","vulnerability_id":"<<cve>>","data_providers":[],` +
		`"created_timestamp":"<<created>>","updated_timestamp":"<<updated>>",<<closed>>"status":"<<status>>","apps":null,"suppression_info":{"is_suppressed":true,"reason":"ACCEPT_RISK"},` +
		`"cve":{"id":"<<cve>>","base_score":<<score>>,"severity":"<<severity>>","exploit_status":<<exploit>>,"remediation_level":"U","published_date":"<<published>>","references":["https:\/\/example.test\/<<cve>>"],"cisa_info":{"is_cisa_kev":true,"due_date":"2026-04-01T00:00:00Z"}},` +
		`"host_info":{"hostname":"<<hostname>>","platform":"<<platform>>","groups":[],"tags":["a","b"],"internet_exposure":"No"},` +
		`"remediation":{"ids":[],"entities":[{"id":"r2","title":"<<text>>"}]}<<edge>>}`,
}

func (c *CrowdStrike) ztaSlots() map[string]Slot {
	return map[string]Slot{
		"aid": func(dst []byte, r Rec) []byte { return c.model.appendAID(dst, r.Index) },
		"assessment": func(dst []byte, r Rec) []byte {
			score, ok := c.model.hostScore(r.Index)
			if !ok {
				return append(dst, "{}"...)
			}
			dst = append(dst, `{"sensor_config":80,"os":55,"overall":`...)
			return append(AppendInt(dst, int64(score)), `,"version":"3.6.1"}`...)
		},
		"modified": func(dst []byte, r Rec) []byte {
			return appendCrowdStrikeTime(dst, c.model.hostSeen(r.Index))
		},
	}
}

var crowdstrikeZTATemplates = []string{
	`{"aid":"<<aid>>","cid":"` + crowdstrikeCID + `","system_serial_number":"SN-1","event_platform":"Win","product_type_desc":"Workstation","modified_time":"<<modified>>",` +
		`"sensor_file_status":"not deployed","assessment":<<assessment>>,"assessment_items":{"os_signals":[{"signal_id":"disk_enc","signal_name":"Disk encryption","group_name":"","criteria":"on","meets_criteria":"yes"}],` +
		`"sensor_signals":[{"signal_id":"quarantine","signal_name":"<<text>>","group_name":"prevention","criteria":"on","meets_criteria":"unknown"}]}<<edge>>}`,
}
