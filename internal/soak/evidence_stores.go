package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"

	"github.com/collectord/collectord/internal/duckdb"
	"github.com/collectord/collectord/internal/testserver"
	"github.com/collectord/collectord/internal/vendorsim"
	"github.com/collectord/collectord/pkg/snapshot"
)

func (s *soak) readPostgres(e *evidence) error {
	conn, err := s.destinations.connectDirectly(s.ctx)
	if err != nil {
		return err
	}
	defer conn.Close(s.ctx)
	t := table{}
	e.tables["Postgres"] = t
	// The only text of the vendors that Postgres does not hold as it is.
	repaired, _ := snapshot.RepairEscapes(nil, []byte(vendorsim.EdgeText))
	for _, stream := range allStreams() {
		found, err := conn.Query(s.ctx, `SELECT json_data::text FROM `+schema+`.`+stream)
		if err != nil {
			return err
		}
		var record []byte
		place := int64(0)
		if _, err := pgx.ForEachRow(found, []any{&record}, func() error {
			place++
			t.addRecord(stream, place, bytes.ReplaceAll(record, repaired, []byte(vendorsim.EdgeText)))
			return nil
		}); err != nil {
			return err
		}
	}
	found, err := conn.Query(s.ctx, `SELECT stream, upload_id, records, stored_at FROM `+schema+`._collectord_snapshots ORDER BY stored_at`)
	if err != nil {
		return err
	}
	var stream string
	var one ledgerEntry
	_, err = pgx.ForEachRow(found, []any{&stream, &one.id, &one.records, &one.at}, func() error {
		e.order[stream] = append(e.order[stream], one)
		return nil
	})
	return err
}

func (s *soak) readDuckDB(e *evidence) (err error) {
	db, err := duckdb.Open(s.ctx, s.destinations.duckdbPath(), duckdb.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	t := table{}
	e.tables["DuckDB"] = t
	for _, stream := range allStreams() {
		if err := readDuckDBTable(s.ctx, db, stream, t); err != nil {
			return err
		}
	}
	return nil
}

func readDuckDBTable(ctx context.Context, db *duckdb.DB, stream string, t table) error {
	found, err := db.QueryContext(ctx, `SELECT rowid, json_data::VARCHAR FROM `+stream+` ORDER BY rowid`)
	if err != nil {
		return err
	}
	defer found.Close()
	var place int64
	var record sql.RawBytes
	for found.Next() {
		if err := found.Scan(&place, &record); err != nil {
			return err
		}
		t.addRecord(stream, place, record)
	}
	return found.Err()
}

// newS3Client returns a client for the bucket without the proxy.
func (d *destinations) newS3Client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String("http://" + d.s3.Addr()), Region: "us-east-1", UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: testserver.S3Key, SecretAccessKey: testserver.S3Secret}, nil
		}),
	})
}

// readUploads lists the unfinished uploads in S3.
func (s *soak) readUploads(e *evidence) error {
	pages := s3.NewListMultipartUploadsPaginator(s.destinations.newS3Client(), &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(s.ctx)
		if err != nil {
			return err
		}
		for _, u := range page.Uploads {
			e.uploads = append(e.uploads, aws.ToString(u.Key))
		}
	}
	return nil
}
