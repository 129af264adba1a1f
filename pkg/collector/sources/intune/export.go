package intune

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/records"
	"github.com/collectord/collectord/pkg/collector/rest"
	"github.com/collectord/collectord/pkg/collector/sources/internal/microsoft"
)

const (
	exportPath = "/v1.0/deviceManagement/reports/exportJobs"
	// fileClass is the endpoint class of the download of files.
	fileClass = "file"
	// reportFile is the one chunk of an export job.
	reportFile = "file"
	// longestJob is the time after which a job will not end any more.
	longestJob = 30 * time.Minute
	// maxArchive and maxContent bound the file of a job.
	maxArchive, maxContent = 4 << 30, 64 << 30
)

// reportColumns are the columns of the report. The vendor advises to name them,
// because its defaults may change.
var reportColumns = []string{
	"ApplicationKey", "ApplicationName", "ApplicationPublisher", "ApplicationShortVersion", "ApplicationVersion",
	"DeviceId", "DeviceName", "OSDescription", "OSVersion", "Platform", "UserId", "EmailAddress", "UserName",
}

// extractDetectedApps reads the report by an export job.
func (a *account) extractDetectedApps(ctx context.Context, c *rest.Client, out collector.Output) error {
	job := reportJob{account: a, api: c}
	return rest.Export{
		Start: job.startExport, Status: job.fetchStatus, Fetch: job.fetchFile,
		Selection: a.selection + " AppInvRawData " + strings.Join(reportColumns, ","),
	}.Run(ctx, out)
}

// reportJob makes the requests of an export job.
type reportJob struct {
	*account
	api *rest.Client
}

// startExport starts a job and returns its id.
func (j reportJob) startExport(ctx context.Context, _ int) (string, error) {
	body, err := json.Marshal(map[string]any{
		"reportName": "AppInvRawData", "format": "csv", "localizationType": "localizedValuesAsAdditionalColumn", "select": reportColumns,
	})
	if err != nil {
		return "", err
	}
	r := rest.Request{Method: http.MethodPost, Path: exportPath, Body: body, Class: microsoft.DevicesClass}
	e, err := j.api.Get(ctx, r)
	if err != nil {
		return "", err
	}
	id := e.Text("id")
	if id == "" {
		return "", fmt.Errorf("%s: %w: the response has no id", r.Step(), collector.ErrIncomplete)
	}
	return id, nil
}

// fetchJob requests the state of a job.
func (j reportJob) fetchJob(ctx context.Context, id string) (*rest.Envelope, error) {
	e, err := j.api.Get(ctx, rest.Request{Path: exportPath + "/" + url.PathEscape(id), Class: microsoft.DevicesClass})
	if rest.HasStatus(err, http.StatusNotFound) {
		return nil, fmt.Errorf("%w: %w", rest.ErrJobLost, err)
	}
	return e, err
}

// fetchStatus returns the state of a job.
func (j reportJob) fetchStatus(ctx context.Context, id string) (rest.JobStatus, error) {
	e, err := j.fetchJob(ctx, id)
	if err != nil {
		return rest.JobStatus{}, err
	}
	switch status := e.Text("status"); status {
	case "completed":
		return rest.JobStatus{Done: true, Ready: []string{reportFile}}, nil
	case "failed":
		return rest.JobStatus{Failed: "it failed"}, nil
	case "notStarted", "inProgress", "unknown":
		requested, err := time.Parse(time.RFC3339, e.Text("requestDateTime"))
		if err == nil && time.Since(requested) > longestJob {
			return rest.JobStatus{Failed: fmt.Sprintf("it is %s after %v", status, longestJob)}, nil
		}
		return rest.JobStatus{}, nil
	default:
		return rest.JobStatus{}, fmt.Errorf("GET %s: %w: the status of the job is %q", exportPath, collector.ErrIncomplete, status)
	}
}

// fetchFile writes the rows of the job's file to out, in one batch. It requests the
// state of the job for the address, which is valid for a limited time.
func (j reportJob) fetchFile(ctx context.Context, id, _ string, out collector.Output) error {
	job, err := j.fetchJob(ctx, id)
	if err != nil {
		return err
	}
	download := rest.Download{URL: job.Text("url"), Hosts: j.settings.Hosts, Setting: "INTUNE_REPORT_HOSTS", Class: fileClass}
	err = j.api.DownloadFile(ctx, download, out, func(resp *rest.Response, each records.Func) error {
		return resp.ReadZIP(ctx, maxArchive, func(archive *records.ZIP) error { return readReport(archive, each) })
	})
	if errors.Is(err, rest.ErrLinkRefused) {
		return fmt.Errorf("%w: %w", rest.ErrNotReady, err)
	}
	return err
}

// readReport reads an archive with one CSV file.
func readReport(archive *records.ZIP, each records.Func) error {
	files, err := archive.Each(maxContent, func(_ records.Entry, content io.Reader) error {
		_, err := records.CSV{Columns: reportColumns}.Each(content, each)
		return err
	})
	if err == nil && files != 1 {
		return &records.FormatError{Err: fmt.Errorf("the archive has %d files, want one", files)}
	}
	return err
}
