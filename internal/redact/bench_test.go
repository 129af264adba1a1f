package redact_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/collectord/collectord/internal/redact"
)

// BenchmarkRedact measures lines without a secret, as nearly all are, beside the number of
// secrets that a service has.
func BenchmarkRedact(b *testing.B) {
	var secrets []string
	for i := range 30 {
		secrets = append(secrets, fmt.Sprintf("%c%dQx/z+%dkey-%d==", 'a'+i%26, i*7919, i*31, i))
	}
	set := redact.NewSet(6, secrets...)
	plain := `{"level":"info","ts":"2026-01-02T03:04:05.678Z","msg":"snapshot committed","stream":"okta_users","records":123456,"took":"3m4.5s"}` + "\n"
	for name, text := range map[string]string{
		"plain":       strings.Repeat(plain, 8),
		"escapes":     strings.Repeat(`GET https://api.example.com/v1/users?filter=a%20eq%20%22b%22&limit=200&after=x: \"not found\"\n`, 10),
		"backslashes": strings.Repeat(`\`, 1000),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				set.Redact(text)
			}
		})
	}
}
