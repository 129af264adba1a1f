package snapshot_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
)

// A run writes records in batches and seals them. A destination opens the snapshot
// and reads it.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example-*")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	w, err := snapshot.Create(filepath.Join(dir, "spool"), snapshot.Header{
		Collector: "okta", Stream: "okta_users", Tenancy: "acme", UploadID: "5b3e",
		UploadTimestamp: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Abort() // does nothing after Seal

	batch := w.NewBatch()
	for _, record := range []string{`{"id":1,"name":"Ada"}`, `{"id":2,"name":"Grace"}`} {
		if err := batch.Append([]byte(record)); err != nil {
			log.Fatal(err)
		}
	}
	if err := batch.Commit(); err != nil {
		log.Fatal(err)
	}
	if _, err := w.Seal(filepath.Join(dir, "sealed")); err != nil {
		log.Fatal(err)
	}

	s, err := snapshot.Open(filepath.Join(dir, "sealed"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.Stream, s.Records)
	r, err := s.Reader(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for {
		record, err := r.Next()
		if err == io.EOF { // the snapshot was complete and intact
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(record))
	}
	// Output:
	// okta_users 2
	// {"id":1,"name":"Ada","_tenancy":"acme","_upload_timestamp":"2026-03-04 05:06:07","_upload_id":"5b3e"}
	// {"id":2,"name":"Grace","_tenancy":"acme","_upload_timestamp":"2026-03-04 05:06:07","_upload_id":"5b3e"}
}

// A batch that fails, such as a vendor's page that turns out to be incomplete, is
// discarded. Its records do not become part of the snapshot.
func ExampleWriter_NewBatch() {
	dir, err := os.MkdirTemp("", "example-*")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	w, err := snapshot.Create(filepath.Join(dir, "spool"), snapshot.Header{Collector: "okta", Stream: "okta_users"})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Abort()

	for _, page := range [][]string{{`{"id":1}`, `{"id":2}`}, {`{"id":3}`, `<html>`}} {
		if err := appendPage(w.NewBatch(), page); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(w.Info().Records, "records")
	// Output:
	// record 2 of the batch: record is not a JSON object: it starts with "<html>"
	// 2 records
}

func appendPage(batch *snapshot.Batch, records []string) error {
	defer batch.Discard() // does nothing after Commit
	for _, record := range records {
		if err := batch.Append([]byte(record)); err != nil {
			return err
		}
	}
	return batch.Commit()
}

// Encode writes a snapshot as one JSON array.
func ExampleSnapshot_Encode() {
	dir, err := os.MkdirTemp("", "example-*")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	w, err := snapshot.Create(filepath.Join(dir, "spool"), snapshot.Header{
		Stream: "okta_users", Tenancy: "acme", UploadID: "5b3e", UploadTimestamp: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := appendPage(w.NewBatch(), []string{`{"id":1}`}); err != nil {
		log.Fatal(err)
	}
	s, err := w.Seal(filepath.Join(dir, "sealed"))
	if err != nil {
		log.Fatal(err)
	}
	if err := s.Encode(context.Background(), os.Stdout, snapshot.Format{Kind: snapshot.JSON}); err != nil {
		log.Fatal(err)
	}
	// Output:
	// [
	// {"id":1,"_tenancy":"acme","_upload_timestamp":"2026-03-04 05:06:07","_upload_id":"5b3e"}
	// ]
}
