package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"

	"go.yaml.in/yaml/v3"
)

const (
	minTokenLength = 16
	maxTokenLength = 256
	maxTokensBytes = 1 << 20 // of the file
)

// allTenancies stands for every tenancy in HTTP_TOKENS_FILE.
const allTenancies = "*"

// Tokens are those of HTTP_TOKENS_FILE. They do not change.
type Tokens struct {
	file    string
	entries []tokenEntry
	secrets []string
}

// tokenEntry is a token, of which only the hash is kept.
type tokenEntry struct {
	visitor
	line int
	hash [sha256.Size]byte
}

// ReadTokens reads HTTP_TOKENS_FILE. configFile is HTTP_WEB_CONFIG_FILE or "": a password
// of basic auth in it would use the header in which browsers send tokens. The error has
// every problem, with the file and the line, and no token.
func ReadTokens(file, configFile string) (*Tokens, error) {
	users, _, err := readWebConfig(configFile)
	switch {
	case err != nil:
		return nil, fmt.Errorf("HTTP_WEB_CONFIG_FILE: %w", err)
	case users > 0:
		return nil, fmt.Errorf("HTTP_TOKENS_FILE: %s: browsers send tokens as the passwords of basic auth, for which %s has basic_auth_users: "+
			"remove these, or HTTP_TOKENS_FILE", file, configFile)
	}
	text, err := readBounded(file, maxTokensBytes)
	if err != nil {
		return nil, fmt.Errorf("HTTP_TOKENS_FILE: %s: %w: want a regular file that the user of the service can read", file, withoutPath(err))
	}
	t := &Tokens{file: file}
	if errs := t.parse(text); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return t, nil
}

// readBounded reads a regular file of at most limit bytes.
func readBounded(file string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // which does not wait for the writer of a pipe
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("it is not a regular file"))
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("it is larger than %d bytes", limit)
	}
	return text, err
}

// Secrets returns the tokens in plain text, which no log may have.
func (t *Tokens) Secrets() []string { return slices.Clone(t.secrets) }

// Contains returns the name of a token in the file; "" if it is none.
func (t *Tokens) Contains(token string) (name string) { return t.find(token).name }

// Unknown returns a sentence for each tenancy in the file that is none of known.
func (t *Tokens) Unknown(known []string) (notes []string) {
	for _, e := range t.entries {
		for _, name := range e.tenancies {
			if !slices.Contains(known, name) {
				notes = append(notes, fmt.Sprintf("HTTP_TOKENS_FILE: %s:%d: the token %q is for the tenancy %q, which does not exist", t.file, e.line, e.name, name))
			}
		}
	}
	return notes
}

// find returns the visitor with a token; one that is not known without it. Its time does
// not depend on which tokens exist.
func (t *Tokens) find(token string) *visitor {
	found := &visitor{}
	if token == "" {
		return found
	}
	hash := sha256.Sum256([]byte(token))
	for i := range t.entries {
		if subtle.ConstantTimeCompare(t.entries[i].hash[:], hash[:]) == 1 {
			found = &t.entries[i].visitor
		}
	}
	return found
}

// parse sets the entries from the text of the file.
func (t *Tokens) parse(text []byte) (errs []error) {
	fail := func(line int, format string, args ...any) {
		errs = append(errs, fmt.Errorf("HTTP_TOKENS_FILE: %s:%d: %s", t.file, line, fmt.Sprintf(format, args...)))
	}
	var root yaml.Node
	switch err := yaml.Unmarshal(text, &root); {
	case err != nil:
		// The error of YAML may have a part of the text, and with it a token.
		return []error{fmt.Errorf("HTTP_TOKENS_FILE: %s: it is not valid YAML%s", t.file, lineOfYAMLError(err))}
	case len(root.Content) == 0 || root.Content[0].Kind != yaml.SequenceNode || len(root.Content[0].Content) == 0:
		fail(1, "want a list of tokens, each with name, token or token_sha256, tenancies and rights")
		return errs
	}
	names, hashes := map[string]int{}, map[[sha256.Size]byte]int{}
	for _, node := range root.Content[0].Content {
		before := len(errs)
		e := t.parseEntry(node, fail)
		if len(errs) > before {
			continue
		}
		if line, twice := names[e.name]; twice {
			fail(e.line, "the name %q is that of line %d", e.name, line)
		}
		if line, twice := hashes[e.hash]; twice {
			fail(e.line, "%q has the same token as line %d: want one token for each", e.name, line)
		}
		names[e.name], hashes[e.hash] = e.line, e.line
		t.entries = append(t.entries, e)
	}
	return errs
}

// lineOfYAMLError returns the line in an error of YAML, as text.
func lineOfYAMLError(err error) string {
	var line int
	if _, scanErr := fmt.Sscanf(err.Error(), "yaml: line %d:", &line); scanErr == nil {
		return fmt.Sprintf(", near line %d", line)
	}
	return ""
}

// parseEntry returns a token of the file. It reports problems to fail.
func (t *Tokens) parseEntry(node *yaml.Node, fail func(line int, format string, args ...any)) (e tokenEntry) {
	e.line = node.Line
	if node.Kind != yaml.MappingNode {
		fail(node.Line, "want a token with name, token or token_sha256, tenancies and rights")
		return e
	}
	members := map[string]*yaml.Node{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case !slices.Contains([]string{"name", "token", "token_sha256", "tenancies", "rights"}, key.Value):
			// An unknown member may be a token on a line with a mistake.
			fail(key.Line, "a member is unknown: want name, token or token_sha256, tenancies and rights")
		case members[key.Value] != nil:
			fail(key.Line, "%s is given twice", key.Value)
		default:
			members[key.Value] = value
		}
	}
	if name := members["name"]; name == nil || name.Kind != yaml.ScalarNode || strings.TrimSpace(name.Value) == "" {
		fail(e.line, "name is missing: want a text that says whose token it is")
	} else {
		e.name = name.Value
	}
	t.parseToken(&e, members["token"], members["token_sha256"], fail)
	parseTenancies(&e, members["tenancies"], fail)
	parseRights(&e, members["rights"], fail)
	return e
}

// parseToken sets the hash of a token, which is given as it is or as its SHA-256.
func (t *Tokens) parseToken(e *tokenEntry, token, sum *yaml.Node, fail func(line int, format string, args ...any)) {
	switch {
	case (token == nil) == (sum == nil):
		fail(e.line, "want either token or token_sha256")
	case token != nil:
		isOther := func(r rune) bool { return r <= ' ' || r > '~' }
		if token.Kind != yaml.ScalarNode || len(token.Value) < minTokenLength || len(token.Value) > maxTokenLength || strings.ContainsFunc(token.Value, isOther) {
			fail(token.Line, "token: want %d to %d characters of ASCII without spaces, such as the output of: openssl rand -hex 32", minTokenLength, maxTokenLength)
			return
		}
		e.hash = sha256.Sum256([]byte(token.Value))
		t.secrets = append(t.secrets, token.Value)
	default:
		hash, err := hex.DecodeString(sum.Value)
		if err != nil || len(hash) != len(e.hash) {
			fail(sum.Line, "token_sha256: want the SHA-256 of the token as 64 hexadecimal digits, such as the output of: printf %%s TOKEN | sha256sum")
			return
		}
		copy(e.hash[:], hash)
	}
}

// parseTenancies sets the tenancies of a token.
func parseTenancies(e *tokenEntry, node *yaml.Node, fail func(line int, format string, args ...any)) {
	const want = `want a list of tenancies, such as [acme, umbrella], or "*" for all`
	switch {
	case node == nil:
		fail(e.line, "tenancies is missing: %s", want)
	case node.Kind == yaml.ScalarNode && node.Value == allTenancies:
		e.all = true
	case node.Kind != yaml.SequenceNode || len(node.Content) == 0:
		fail(node.Line, "tenancies: %s", want)
	default:
		for _, one := range node.Content {
			switch {
			case one.Kind != yaml.ScalarNode || strings.TrimSpace(one.Value) == "":
				fail(one.Line, "tenancies: %s", want)
			case one.Value == allTenancies:
				fail(one.Line, `tenancies: all is tenancies: "*", not a member of a list`)
			default:
				e.tenancies = append(e.tenancies, one.Value)
			}
		}
	}
}

// parseRights sets the rights of a token.
func parseRights(e *tokenEntry, node *yaml.Node, fail func(line int, format string, args ...any)) {
	const want = "want a list with some of read, run and query"
	if node == nil || node.Kind != yaml.SequenceNode || len(node.Content) == 0 {
		fail(e.line, "rights: %s", want)
		return
	}
	for _, one := range node.Content {
		right := Right(one.Value)
		if one.Kind != yaml.ScalarNode || !slices.Contains(allRights, right) {
			fail(one.Line, "rights: %s", want)
			continue
		}
		e.rights = append(e.rights, right)
	}
}

// allRights are those of HTTP_TOKEN.
var allRights = []Right{ReadRight, RunRight, QueryRight}

// anyToken returns the token of a request, in a header of its own or as the password of
// basic auth; "" for none.
func anyToken(r *http.Request) string {
	if token := givenToken(r); token != "" {
		return token
	}
	_, password, _ := r.BasicAuth()
	return password
}
