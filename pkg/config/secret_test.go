package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/collectord/collectord/pkg/config"
)

const canary = "canary-7f3a91"

func TestSecretIsNeverPrinted(t *testing.T) {
	secret := config.Secret(canary)
	holder := struct {
		One  config.Secret
		Two  *config.Secret
		Many []config.Secret
		Any  any
		Map  map[string]config.Secret
	}{One: secret, Two: &secret, Many: []config.Secret{secret}, Any: secret, Map: map[string]config.Secret{"k": secret}}

	for _, verb := range strings.Split("v +v #v s q x X d t b o c U e g 10v .3s", " ") {
		if got := fmt.Sprintf("%"+verb, secret); got != "[redacted]" {
			t.Errorf("%%%s prints %q", verb, got)
		}
	}
	printed := []string{
		fmt.Sprint(secret, &secret), fmt.Sprintf("%v %+v %#v %s %q %x", holder, holder, holder, holder, holder, holder),
		secret.String(), secret.GoString(), fmt.Errorf("x: %v", secret).Error(),
	}
	encoded, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	text, err := secret.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	printed = append(printed, string(encoded), string(text), logWithZap(secret, holder), logWithSlog(secret, holder))
	for _, got := range printed {
		if strings.Contains(got, canary) || strings.Contains(got, fmt.Sprintf("%x", canary)) || !strings.Contains(got, "[redacted]") {
			t.Errorf("printed as %s", got)
		}
	}
	if secret.Reveal() != canary || !secret.IsSet() || config.Secret("").IsSet() {
		t.Error("Reveal or IsSet is wrong")
	}
}

// logWithZap logs the values with each kind of zap's fields.
func logWithZap(secret config.Secret, holder any) string {
	var out bytes.Buffer
	for _, encoder := range []zapcore.Encoder{
		zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()),
	} {
		log := zap.New(zapcore.NewCore(encoder, zapcore.AddSync(&out), zap.DebugLevel))
		log.Info("m", zap.Any("any", secret), zap.Stringer("stringer", secret), zap.Reflect("reflect", secret),
			zap.Any("pointer", &secret), zap.Any("many", []config.Secret{secret}), zap.Any("holder", holder))
		log.Sugar().Infow("m", "key", secret, "holder", holder)
		log.Sugar().Infof("%v %s %+v", secret, secret, holder)
	}
	return out.String()
}

func logWithSlog(secret config.Secret, holder any) string {
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "key", secret, "holder", holder)
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "key", secret, "holder", holder)
	return out.String()
}

// TestMessagesContainNoSecret sets secrets in all ways that cause problems, and
// searches the messages for them.
func TestMessagesContainNoSecret(t *testing.T) {
	long := canary + strings.Repeat("x", 200)
	const quoted = canary + "\"\\\n$q"
	tests := map[string]config.Source{
		"as they should be": {Environ: []string{"STORE_POSTGRES_URL=postgres://u:" + canary + "@h/d", "TIO_ACCESS_KEY=" + canary, "TIO_SECRET_KEY=" + canary + "2"}},
		"broken URL":        {Environ: []string{"STORE_POSTGRES_URL=postgres://u:" + canary + "%zz@h/d"}},
		"another's URL":     {Environ: []string{"STORE_POSTGRES_URL=mysql://u:" + canary + "@h/d"}},
		"URL twice":         {Environ: []string{"STORE_POSTGRES_URL=" + canary, "STORE_POSTGRES_HOST=" + canary}},
		"escaped password":  {Environ: []string{"STORE_POSTGRES_URL=postgres://u:%63anary-7f3a91@h/d", "STORE_POSTGRES_PORT=" + canary}},
		"in a number":       {Environ: []string{"STORE_POSTGRES_PASSWORD=" + canary, "STORE_POSTGRES_PORT=" + canary}},
		"in a long text":    {Environ: []string{"STORE_POSTGRES_PASSWORD=" + long, "STORE_POSTGRES_PORT=" + long}},
		"needs quoting":     {Environ: []string{"STORE_POSTGRES_PASSWORD=" + quoted, "GUARD_DROP=" + quoted, "TENANCY=" + quoted}},
		"in every other":    {Environ: []string{"OKTA_TOKEN=" + canary, "TENANCY=/" + canary, "COLLECTORS=" + canary, "LOG_LEVEL=" + canary, "STORE_FILE=" + canary + "\x00", "TIO_URL=" + canary, "STORE_SPOOL_MAX=" + canary, "STORE_AWS_S3_BUCKET=s3://" + canary}},
		"URL with password": {Environ: []string{"TIO_URL=ftp://u:" + canary + "@h"}},
		"own check":         {Environ: []string{"TIO_ACCESS_KEY=" + canary, "TIO_SECRET_KEY=" + canary}},
		"NUL":               {Environ: []string{"TIO_ACCESS_KEY=" + canary + "\x00"}},
		"alias differs":     {Environ: []string{"FALCON_SECRET=" + canary, "CROWDSTRIKE_CLIENT_SECRET=" + canary + "2"}},
		"FILE too":          {Environ: []string{"FALCON_SECRET=" + canary, "FALCON_SECRET_FILE=" + canary}},
		"FILE mixed up":     {Environ: []string{"FALCON_SECRET_FILE=" + canary}},
		"FILE mixed up too": {Environ: []string{"FALCON_SECRET_FILE=" + canary + "/x"}},
		"empty credentials": {Environ: []string{"CREDENTIALS_DIRECTORY=/nonexistent", "OKTA_TOKEN=" + canary}},
	}
	for name, src := range tests {
		t.Run(name, func(t *testing.T) {
			src.Dir = t.TempDir()
			l := loadSource(t, src)
			for _, text := range append(l.warnings, l.problems...) {
				if strings.Contains(text, canary) {
					t.Errorf("leaked: %s", text)
				}
			}
		})
	}
}

// TestSettingsHideSecrets prints settings in every notation.
func TestSettingsHideSecrets(t *testing.T) {
	l := loadWithoutProblems(t, config.Source{Environ: []string{
		"STORE_POSTGRES_PASSWORD=" + canary, "STORE_POSTGRES_HOST=h", "STORE_POSTGRES_USER=u", "STORE_POSTGRES_DBNAME=d",
		"TIO_ACCESS_KEY=" + canary + "1", "TIO_SECRET_KEY=" + canary + "2", "FALCON_CLIENT_ID=id", "CROWDSTRIKE_CLIENT_SECRET=" + canary,
		"OKTA_DOMAIN=x", "OKTA_ID=y", "OKTA_TOKEN=" + canary,
	}})
	for _, v := range []any{&l.Settings, l.Settings, l.postgres, l.sections["tenable"].Into, l.sections["crowdstrike"].Into, l.sections["okta"].Into, *l.sections["okta"]} {
		encoded, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{fmt.Sprintf("%v", v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v), string(encoded)} {
			if strings.Contains(text, canary) {
				t.Errorf("leaked: %s", text)
			}
		}
	}
	if l.postgres.Password.Reveal() != canary {
		t.Error("the password is not set")
	}
}

func TestSecrets(t *testing.T) {
	l := loadSource(t, config.Source{Environ: []string{
		"STORE_POSTGRES_URL=postgres://u:p%40ss-word@h/d", "OKTA_TOKEN=half-set-token",
		"TIO_ACCESS_KEY=a", "TIO_SECRET_KEY=b", "FALCON_CLIENT_ID=no-secret",
	}})
	want := []string{"postgres://u:p%40ss-word@h/d", "half-set-token", "p%40ss-word", "p@ss-word", "a", "b"}
	if diff := cmp.Diff(want, l.found.Secrets()); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
}
