package main

import (
	"fmt"
	"strings"

	"github.com/collectord/collectord/pkg/collector"
	"github.com/collectord/collectord/pkg/collector/sources"
	"github.com/collectord/collectord/pkg/config"
)

// settingsReference is docs/settings.md.
func settingsReference() string { return config.Reference(new(config.Settings), allSections()...) }

func allSections() []*config.Section {
	var sections []*config.Section
	for _, s := range sources.All() {
		sections = append(sections, sectionOf(s))
	}
	return sections
}

func sectionOf(s collector.Source) *config.Section {
	return &config.Section{Name: s.Name, Title: s.Title, Into: s.Settings(), Collector: true}
}

// collectorsReference is docs/collectors.md.
func collectorsReference() string {
	var b strings.Builder
	b.WriteString(`# Collectors

<!-- Generated from the code by "make docs"; do not edit. -->

A collector is on when its required variables are set; [settings](settings.md) says where their values may come from. "collectord list" shows which are on, and why the others are not. Each stream is a table of its own; its name stands for %TAG in paths.
`)
	for _, s := range sources.All() {
		writeSource(&b, s)
	}
	return b.String()
}

func writeSource(b *strings.Builder, s collector.Source) {
	fmt.Fprintf(b, "\n## %s\n\n%s. The vendor's own description: <%s>\n\n", s.Name, s.Title, s.Docs)
	fmt.Fprintf(b, "- **Permissions**: %s\n", s.Permissions)
	fmt.Fprintf(b, "- **Rate limit**: %s\n\n", s.RateLimit)
	b.WriteString(config.Table(s.Settings()))
	for _, stream := range s.Streams {
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
