package sources

import (
	"fmt"
	"strings"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/config"
)

// Sections returns a section of the settings for each collector of All, in the
// same order.
func Sections() []*config.Section {
	var sections []*config.Section
	for _, d := range All() {
		sections = append(sections, NewSection(d))
	}
	return sections
}

// NewSection returns a section of the settings for a collector.
func NewSection(d collector.Definition) *config.Section {
	section := &config.Section{Name: d.Name, Title: d.Title, Into: d.Settings(), Collector: true, OnByDefault: d.OnByDefault, IsPublic: d.IsPublic}
	for _, stream := range d.Streams {
		section.Streams = append(section.Streams, config.Stream{Name: stream.Name})
	}
	return section
}

// Reference returns the reference of the collectors in Markdown: docs/reference/collectors.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Collectors

<!-- Generated from the code by "make docs"; do not edit. -->

A collector is enabled when its required variables are set; [settings](settings.md) says where their values may come from. [COLLECTORS](../guide/schedules.md#select-collectors-and-streams) selects collectors and streams, for example without a module that is not licensed. "collectord list" shows which collectors and streams are enabled, and why the others are not. Each stream is a table of its own. Its name replaces %TAG in paths.

These collectors are part of the program. [Others](../guide/your-own-collector.md) are programs in any language.
`)
	for _, d := range All() {
		writeReference(&b, d)
	}
	return b.String()
}

func writeReference(b *strings.Builder, d collector.Definition) {
	fmt.Fprintf(b, "\n## %s\n\n%s. The vendor's own description: <%s>\n\n", d.Name, d.Title, d.Docs)
	fmt.Fprintf(b, "- **Permissions**: %s\n", d.Permissions)
	fmt.Fprintf(b, "- **Rate limit**: %s\n\n", d.RateLimit)
	b.WriteString(config.Table(d.Settings()))
	for _, stream := range d.Streams {
		fmt.Fprintf(b, "\n### %s\n\nOne record is %s.\n\n", stream.Name, stream.Records)
		for i, e := range stream.Endpoints {
			stream.Endpoints[i] = "`" + e + "`"
		}
		fmt.Fprintf(b, "- **Requests**: %s\n", strings.Join(stream.Endpoints, ", "))
		fmt.Fprintf(b, "- **Page size**: %s\n", stream.PageSize)
		if stream.Permissions != "" {
			fmt.Fprintf(b, "- **Permissions**: %s\n", stream.Permissions)
		}
		if stream.Notes != "" {
			fmt.Fprintf(b, "\n%s\n", stream.Notes)
		}
	}
}
