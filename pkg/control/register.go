package control

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// registerColumns are the columns of a register of resources.
var registerColumns = []string{"resource", "resource_type", "business_unit", "team", "location"}

// A register is the units that resources belong to.
type register struct {
	// text is CSV with registerColumns.
	text []byte
	hash string
}

// CheckRegister returns what is wrong with the register of resources.
func (s Settings) CheckRegister() error {
	_, err := s.readRegister()
	return err
}

// readRegister reads the register of the settings; nil when there is none.
func (s Settings) readRegister() (*register, error) {
	if s.Register == "" {
		return nil, nil
	}
	r, err := parseRegister(s.Register)
	if err != nil {
		return nil, fmt.Errorf("CONTROLS_RESOURCES: %w", err)
	}
	return r, nil
}

// parseRegister reads a CSV file with a header: the column resource, and one or more of
// resource_type, business_unit, team and location, in any order and among others. Each
// resource may be there once for each type. Letter case does not count for both.
func parseRegister(path string) (*register, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))))
	header, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: read the header: %w", path, err)
	}
	columns, err := registerColumnsOf(header)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	_ = w.Write(registerColumns) // a buffer has no errors
	lines := map[[2]string]int{}
	for {
		fields, err := r.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		line, _ := r.FieldPos(0)
		values := make([]string, len(columns))
		for i, at := range columns {
			if at >= 0 {
				values[i] = strings.TrimSpace(fields[at])
			}
		}
		if values[0] == "" {
			return nil, fmt.Errorf("%s: line %d: resource is empty", path, line)
		}
		key := [2]string{strings.ToLower(values[0]), strings.ToLower(values[1])}
		if first := lines[key]; first > 0 {
			return nil, fmt.Errorf("%s: line %d: %s is already in line %d: a resource may be there once for each resource_type", path, line, values[0], first)
		}
		lines[key] = line
		_ = w.Write(values)
	}
	w.Flush()
	return &register{out.Bytes(), hashOf(out.Bytes())}, nil
}

// registerColumnsOf returns the index of each of registerColumns in a header; -1 when
// it is not there.
func registerColumnsOf(header []string) (columns []int, err error) {
	for i, name := range header {
		header[i] = strings.ToLower(strings.TrimSpace(name))
	}
	for _, name := range registerColumns {
		columns = append(columns, slices.Index(header, name))
	}
	if columns[0] < 0 {
		return nil, fmt.Errorf("the header %s has no column resource", strings.Join(header, ","))
	}
	if slices.Max(columns[2:]) < 0 {
		return nil, errors.New("the header has none of the columns business_unit, team and location")
	}
	return columns, nil
}
