// Command s3uploader stores a finished file with the AWS SDK's own uploader,
// with its defaults: what the destination s3 is measured against.
//
//	s3uploader FILE BUCKET KEY
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "s3uploader:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("want FILE BUCKET KEY, got %q", args)
	}
	conf, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"))
	if err != nil {
		return err
	}
	client := s3.NewFromConfig(conf, func(o *s3.Options) { o.UsePathStyle = true })
	// The bucket may be there already.
	if _, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &args[1]}); err != nil {
		if _, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &args[1]}); err != nil {
			return err
		}
	}
	file, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = manager.NewUploader(client).Upload(ctx, &s3.PutObjectInput{Bucket: &args[1], Key: &args[2], Body: file})
	return err
}
