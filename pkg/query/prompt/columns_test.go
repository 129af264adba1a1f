package prompt

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/collectord/collectord/pkg/query"
)

// newLoadingSession returns a session with one stream, whose columns load reads, and what it
// prints.
func newLoadingSession(load func(context.Context, string) ([]query.Column, error)) (*session, *bytes.Buffer) {
	var printed bytes.Buffer
	return &session{
		o: Options{Err: &printed}, streams: []query.StreamData{{Stream: "okta_users", UploadID: "1"}}, columns: newColumnLoader(load),
	}, &printed
}

// completeStatus completes a column of the stream.
func completeStatus(s *session) (head string, texts []string) {
	const line = "FROM okta_users WHERE stat"
	head, texts, _ = s.completeLine(line, len(line))
	return head, texts
}

// TestCompletionOfSlowColumns completes a column while the columns are being read: the first
// completion says so after a while and leaves the line as it is, and a later one has them
// without another read.
func TestCompletionOfSlowColumns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads, release := 0, make(chan struct{})
		s, printed := newLoadingSession(func(ctx context.Context, stream string) ([]query.Column, error) {
			reads++
			<-release
			return []query.Column{{Name: "status"}}, ctx.Err()
		})
		for range 2 {
			head, texts := completeStatus(s)
			if head != "FROM okta_users WHERE " || !slices.Equal(texts, []string{"stat"}) {
				t.Errorf("the line becomes %q with %q", head, texts)
			}
			if !strings.Contains(printed.String(), "\r\n(the columns of okta_users are being read: press Tab again)\r\n") {
				t.Errorf("printed: %q", printed)
			}
			printed.Reset()
		}
		close(release)
		synctest.Wait()
		if _, texts := completeStatus(s); !slices.Equal(texts, []string{"status "}) || printed.Len() > 0 || reads != 1 {
			t.Errorf("the line ends with %q after %d reads, printed %q", texts, reads, printed)
		}
	})
}

// TestColumnsAreReadAgain checks that columns that could not be read, or whose reading was
// stopped, are read again, and others are not.
func TestColumnsAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads, failure, hang := 0, errors.New("failed"), false
		s, printed := newLoadingSession(func(ctx context.Context, _ string) ([]query.Column, error) {
			reads++
			if hang {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return []query.Column{{Name: "status"}}, failure
		})
		if _, err := s.columns.read(t.Context(), s.streams[0]); !errors.Is(err, failure) {
			t.Errorf("error %v, want that of the read", err)
		}
		hang = true
		completeStatus(s)
		s.columns.stop() // as a statement does
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errInterrupted)
		if _, err := s.columns.read(ctx, s.streams[0]); !errors.Is(err, errInterrupted) {
			t.Errorf("error %v, want that of the context", err)
		}
		s.columns.stop()
		hang, failure = false, nil
		printed.Reset()
		for range 2 {
			if _, texts := completeStatus(s); !slices.Equal(texts, []string{"status "}) {
				t.Errorf("completed: %q, printed: %q", texts, printed)
			}
		}
		if reads != 4 {
			t.Errorf("%d reads, want 4", reads)
		}
	})
}
