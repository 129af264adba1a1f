package vendorsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// chunkPath splits the path of a chunk into the path of its job and its id.
func chunkPath(path string) (job string, id int, ok bool) {
	job, text, ok := strings.Cut(path, "/chunks/")
	if !ok {
		return "", 0, false
	}
	id, err := strconv.Atoi(text)
	return job, id, err == nil
}

// jsonMember is one member of a JSON object.
type jsonMember struct {
	name  string
	value json.RawMessage
}

// rewriteJobStatus rewrites the status of an export job so that it lists only
// recorded chunks. If used is set, the job is FINISHED and lists all recorded
// chunks. Other members and their order are kept. A body that is not an object
// is returned unchanged.
func rewriteJobStatus(body []byte, recorded []int, used bool) []byte {
	members, err := splitObject(body)
	if err != nil {
		return body
	}
	status := ""
	ids, listed := []int{}, false
	for _, m := range members {
		switch m.name {
		case "status":
			_ = json.Unmarshal(m.value, &status)
		case "chunks_available":
			listed = json.Unmarshal(m.value, &ids) == nil
		}
	}
	ids = slices.DeleteFunc(ids, func(id int) bool { return !slices.Contains(recorded, id) })
	if used || status == statusFinished {
		status = statusFinished
		for _, id := range recorded {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	set := map[string]any{"status": status}
	if listed || status == statusFinished {
		set["chunks_available"] = ids
	}
	if status == statusFinished {
		for _, name := range []string{"total_chunks", "chunks_available_count", "finished_chunks"} {
			if slices.ContainsFunc(members, func(m jsonMember) bool { return m.name == name }) {
				set[name] = len(ids)
			}
		}
	}
	return joinObject(members, set)
}

// splitObject returns the members of an object in order.
func splitObject(body []byte) ([]jsonMember, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not an object")
	}
	var out []jsonMember
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		m := jsonMember{name: name.(string)}
		if err := dec.Decode(&m.value); err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// joinObject renders the members with some values replaced. Values for new
// names are added at the end, sorted by name.
func joinObject(members []jsonMember, set map[string]any) []byte {
	for i, m := range members {
		if v, ok := set[m.name]; ok {
			members[i].value = mustJSON(v)
			delete(set, m.name)
		}
	}
	names := make([]string, 0, len(set))
	for name := range set {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		members = append(members, jsonMember{name, mustJSON(set[name])})
	}
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range members {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(mustJSON(m.name))
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}
