// Command s3uploader stores a finished file with one of the AWS SDK's own
// uploaders, with its defaults: what the destination s3 is measured against.
//
//	s3uploader transfermanager|manager FILE BUCKET KEY
//
// It writes "ready" when its start is over and "done" at the end, see timed in
// the package above.
// The first takes the place of the second, which its own module calls
// deprecated.
package main

import (
	"context"
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
		return fmt.Errorf("want transfermanager|manager FILE BUCKET KEY, got %q", args)
	}
	fmt.Print("ready\n")
	defer fmt.Print("done\n")
	uploader, path, bucket, key := args[0], args[1], &args[2], &args[3]
	conf, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"))
	if err != nil {
		return err
	}
	client := s3.NewFromConfig(conf, func(o *s3.Options) { o.UsePathStyle = true })
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
