package s3

import (
	"slices"
	"strings"
	"unicode"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/store"
)

const (
	// Name is the destination's name in messages and metrics.
	Name = "s3"
	// Title is the heading of the settings in the reference.
	Title = "Amazon S3"

	keySetting    = "STORE_AWS_S3_KEY"
	backupSetting = "STORE_AWS_S3_BACKUP"
)

// Settings are the settings of the destination, and of the backups in the same
// bucket, see package backup.
type Settings struct {
	Bucket   string `env:"STORE_AWS_S3_BUCKET" target:"true" want:"the name of a bucket" example:"acme-security-data" doc:"The bucket; if unset, S3 is off. Region and credentials are those of the AWS SDK."`
	Profile  string `env:"STORE_AWS_S3_PROFILE" target:"true" want:"the name of a profile" example:"acme" doc:"The profile in the files of the AWS SDK whose region and credentials are used for the bucket; if unset, those of the process, such as AWS_PROFILE."`
	Key      string `env:"STORE_AWS_S3_KEY" want:"a key with variables such as %TAG" example:"source/%TAG/%TENANCY.json" doc:"The object of each stream's newest snapshot; if unset, only backups go to the bucket."`
	Backup   string `env:"STORE_AWS_S3_BACKUP" envDefault:"backup/%TAG/%TENANCY.json" want:"a key with %TAG and %TENANCY, or off" empty:"off" doc:"The object that backs up each stream's last-known snapshot, from which a new machine restores it. Off, or set to nothing: no backups."`
	SSE      string `env:"STORE_AWS_S3_SSE" oneof:"AES256,aws:kms" doc:"The encryption on the server; if unset, the bucket's own."`
	KMSKeyID string `env:"STORE_AWS_S3_KMS_KEY_ID" want:"the ID, ARN or alias of a key" doc:"The KMS key for STORE_AWS_S3_SSE=aws:kms; if unset, the account's own."`

	ACL          string `env:"STORE_AWS_S3_ACL" oneof:"auto,none,private,bucket-owner-read,bucket-owner-full-control" doc:"The ACL of objects; if unset or auto, bucket-owner-full-control, and none where the server refuses it."`
	Checksum     string `env:"STORE_AWS_S3_CHECKSUM" oneof:"auto,crc32c,md5,none" doc:"The checksum that is sent with a body: x-amz-checksum-crc32c, Content-MD5, or none; if unset or auto, AWS receives CRC32C, and other servers what they require."`
	PathStyle    string `env:"STORE_AWS_S3_PATH_STYLE" oneof:"auto,true,false" doc:"Whether the bucket is in the path of the address instead of the host name; if unset or auto, it is in the host name at AWS, and in the path with an endpoint, unless the server refuses that."`
	RequestPayer string `env:"STORE_AWS_S3_REQUEST_PAYER" oneof:"requester" doc:"For a bucket whose users pay for requests; if unset, its owner pays."`
}

// HasBackup reports whether backups are written.
func (s *Settings) HasBackup() bool {
	return s.Bucket != "" && s.Backup != "" && !strings.EqualFold(strings.TrimSpace(s.Backup), "off")
}

// Options returns the options of a Sink in the bucket, without Key.
func (s *Settings) Options(o store.Options) Options {
	return Options{
		Bucket: s.Bucket, Profile: s.Profile, SSE: s.SSE, KMSKeyID: s.KMSKeyID, Repair: o.Repair, Parquet: o.Parquet, Note: o.Note,
		ACL: s.ACL, Checksum: s.Checksum, PathStyle: s.PathStyle, RequestPayer: s.RequestPayer,
	}
}

// Validate implements config.Validator.
func (s *Settings) Validate() []error {
	var errs []error
	if s.Key != "" && s.Bucket == "" {
		errs = append(errs, config.Incomplete("STORE_AWS_S3_BUCKET", "not set, but STORE_AWS_S3_KEY is: S3 is off: set both, or neither"))
	}
	if strings.Contains(s.Bucket, "://") || strings.ContainsFunc(s.Bucket, unicode.IsSpace) {
		errs = append(errs, config.Invalid("STORE_AWS_S3_BUCKET", "%q is not the name of a bucket: want one without s3:// and spaces", s.Bucket))
	}
	if spelling := strings.ToLower(strings.TrimSpace(s.Backup)); slices.Contains([]string{"false", "none", "no", "0", "disabled"}, spelling) {
		errs = append(errs, config.Invalid(backupSetting, "%q is not a key: want off for no backups", s.Backup))
	}
	if s.KMSKeyID != "" && s.SSE != "aws:kms" {
		errs = append(errs, config.Invalid("STORE_AWS_S3_KMS_KEY_ID", "set, but STORE_AWS_S3_SSE is not aws:kms: set both, or neither"))
	}
	return errs
}

// Cautions implements store.CautiousSettings.
func (s *Settings) Cautions() (list []store.Caution) {
	if s.Bucket != "" && s.Key != "" {
		list = store.TenancyCaution(keySetting, s.Key)
	}
	if s.HasBackup() {
		list = append(list, store.TenancyCaution(backupSetting, s.Backup)...)
	}
	return list
}

// Locations implements store.LocatedSettings.
func (s *Settings) Locations() (list []store.Location) {
	if s.Bucket != "" && s.Key != "" {
		list = append(list, store.Location{Setting: keySetting, Template: s.Key, Bucket: s.Bucket})
	}
	if s.HasBackup() {
		list = append(list, store.Location{Setting: backupSetting, Template: s.Backup, Bucket: s.Bucket})
	}
	return list
}

// Definition describes the destination.
var Definition = store.Define(store.Info{Name: Name, Title: Title}, func(s *Settings, o store.Options) (store.Sink, error) {
	if s.Bucket == "" || s.Key == "" {
		return nil, nil
	}
	key, err := store.ParseTarget(keySetting, s.Key)
	if err != nil {
		return nil, err
	}
	opts := s.Options(o)
	opts.Key, opts.KeyTemplate, opts.OneObject = key.Render, key.String(), key.NamesOneObject()
	// Keys with a time alone may be those of two tenancies.
	opts.SkipLookup = key.Uses("UUID") || !opts.OneObject && key.Uses("TAG") && key.Uses("TENANCY")
	return New(opts)
})
