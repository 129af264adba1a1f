package s3

import (
	"context"
	"sync/atomic"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	acceptEncoding = "Accept-Encoding"
	requestPayer   = "X-Amz-Request-Payer"
)

// leaveAcceptEncodingUnsigned keeps Accept-Encoding out of the signature. Google
// Cloud Storage, Cloudflare and other proxies rewrite the header, and a signed one
// then makes the signature invalid, see
// https://github.com/aws/aws-sdk-go-v2/issues/1816.
func leaveAcceptEncodingUnsigned(stack *middleware.Stack) error {
	if _, signs := stack.Finalize.Get("Signing"); !signs {
		return nil
	}
	hide := changeHeader("HideAcceptEncoding", func(r *smithyhttp.Request) { r.Header.Del(acceptEncoding) })
	// "identity" is what the SDK sends, since it must not decompress objects.
	show := changeHeader("ShowAcceptEncoding", func(r *smithyhttp.Request) { r.Header.Set(acceptEncoding, "identity") })
	if err := stack.Finalize.Insert(hide, "Signing", middleware.Before); err != nil {
		return err
	}
	return stack.Finalize.Insert(show, "Signing", middleware.After)
}

// changeHeader returns a middleware that changes each attempt of a request.
func changeHeader(id string, change func(*smithyhttp.Request)) middleware.FinalizeMiddleware {
	return middleware.FinalizeMiddlewareFunc(id, func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
		if r, ok := in.Request.(*smithyhttp.Request); ok {
			change(r)
		}
		return next.HandleFinalize(ctx, in)
	})
}

// addRequestPayer says in each request who pays for it, if an option does.
func (s *Sink) addRequestPayer(stack *middleware.Stack) error {
	if s.opts.RequestPayer == "" {
		return nil
	}
	return stack.Build.Add(middleware.BuildMiddlewareFunc("RequestPayer", func(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (middleware.BuildOutput, middleware.Metadata, error) {
		if r, ok := in.Request.(*smithyhttp.Request); ok {
			r.Header.Set(requestPayer, s.opts.RequestPayer)
		}
		return next.HandleBuild(ctx, in)
	}), middleware.After)
}

// A serverHeader is the header Server of the last response.
type serverHeader struct{ value atomic.Pointer[string] }

// watch adds a middleware that keeps the header of each response.
func (s *serverHeader) watch(stack *middleware.Stack) error {
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("ServerHeader", func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, meta, err := next.HandleDeserialize(ctx, in)
		if r, ok := out.RawResponse.(*smithyhttp.Response); ok && r != nil && r.Response != nil {
			if name := r.Header.Get("Server"); name != "" {
				s.value.Store(&name)
			}
		}
		return out, meta, err
	}), middleware.After)
}

// name returns the header, "" if there was none.
func (s *serverHeader) name() string {
	if s == nil {
		return ""
	}
	if name := s.value.Load(); name != nil {
		return *name
	}
	return ""
}
