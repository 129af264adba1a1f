// Command s3uploader stores a finished file with one of the uploaders of the
// AWS SDK and its defaults, or downloads an object to a file. The destination s3
// and the restore are compared with it.
//
//	s3uploader transfermanager|manager|download FILE BUCKET KEY
//
// It prints "ready" after its start and "done" at the end, see runTimed in the
// parent package. manager is deprecated in favor of transfermanager.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "s3uploader:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("expected transfermanager|manager|download FILE BUCKET KEY, got %q", args)
	}
	fmt.Print("ready\n")
	defer fmt.Print("done\n")
	uploader, path, bucket, key := args[0], args[1], &args[2], &args[3]
	conf, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"))
	if err != nil {
		return err
	}
	client := s3.NewFromConfig(conf, func(o *s3.Options) { o.UsePathStyle = true })
	if uploader == "download" {
		return download(ctx, client, path, bucket, key)
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	switch uploader {
	case "transfermanager":
		_, err = transfermanager.New(client).UploadObject(ctx, &transfermanager.UploadObjectInput{Bucket: bucket, Key: key, Body: file})
	case "manager":
		_, err = manager.NewUploader(client).Upload(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: file})
	default:
		err = fmt.Errorf("no uploader is named %q", uploader)
	}
	return err
}

// download writes an object to a new file.
func download(ctx context.Context, client *s3.Client, path string, bucket, key *string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = transfermanager.New(client).DownloadObject(ctx, &transfermanager.DownloadObjectInput{Bucket: bucket, Key: key, WriterAt: file})
	return errors.Join(err, file.Close())
}
