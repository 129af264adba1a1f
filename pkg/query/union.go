package query

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	driver "github.com/duckdb/duckdb-go/v2"

	"github.com/collectord/collectord/internal/duckdb"
)

// rowsOfTenancies returns the SELECT of the rows of a stream of several tenancies. Columns
// have the name in common. Where their types differ, DuckDB finds a common one, such as
// VARCHAR for a number and a text, and an object with the members of both. Where there is
// none that keeps the values, see chooseConversion, the column is converted for all.
func (s *session) rowsOfTenancies(ctx context.Context, sources []streamSource) (string, error) {
	u := &union{session: s, sources: sources, conversions: map[string]conversion{}, without: map[int][]string{}}
	if err := u.readColumns(ctx); err != nil {
		return "", err
	}
	if err := u.chooseConversions(ctx); err != nil {
		return "", err
	}
	var parts []string
	for i := range sources {
		parts = append(parts, u.rows(i))
	}
	return strings.Join(parts, " UNION ALL BY NAME "), nil
}

// A union is that of the rows of a stream of several tenancies.
type union struct {
	*session
	sources []streamSource
	columns [][]driver.StructEntry // of each source
	// conversions has the columns to be converted in all sources, by name in lower case.
	// without has those that a source has no value of, and that have another type elsewhere.
	conversions map[string]conversion
	without     map[int][]string
	valueless   map[int]map[string]bool // paths in the file of a source, see isValueless
}

// A conversion is what a column of several types is converted to.
type conversion int

const (
	keep   conversion = iota // DuckDB finds the type
	asText                   // VARCHAR
	asJSON                   // JSON
)

// A typedValue is a column of a source, or what is in it.
type typedValue struct {
	source int
	path   string // in the source's file, as parquet_metadata has it
	info   driver.TypeInfo
}

// readColumns reads the columns of each source.
func (u *union) readColumns(ctx context.Context) error {
	for _, source := range u.sources {
		columns, err := u.columnsOf(ctx, rowsOf(source))
		if err != nil {
			if duckdb.KindOf(err) != duckdb.Memory {
				_ = os.Remove(source.Columns) // as createViews does
			}
			return fmt.Errorf("tenancy %s: %w", source.Tenancy, err)
		}
		u.columns = append(u.columns, columns)
	}
	return nil
}

// chooseConversions chooses the conversions of all columns.
func (u *union) chooseConversions(ctx context.Context) error {
	columns := map[string][]typedValue{}
	for i, list := range u.columns {
		for _, c := range list {
			name := strings.ToLower(c.Name())
			columns[name] = append(columns[name], typedValue{i, c.Name(), c.Info()})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(columns)) {
		values := columns[name]
		withValues, err := u.dropValueless(ctx, values)
		if err != nil {
			return err
		}
		for _, v := range values {
			if len(withValues) > 0 && !slices.Contains(withValues, v) {
				u.without[v.source] = append(u.without[v.source], v.path)
			}
		}
		if u.conversions[name], err = u.chooseConversion(ctx, withValues, true); err != nil {
			return err
		}
	}
	return nil
}

// The families of types within which DuckDB finds a common type that keeps all values.
const (
	textFamily   = "text"
	jsonFamily   = "JSON"
	numberFamily = "number"
	timeFamily   = "time"
	structFamily = "object"
	listFamily   = "list"
)

// familyOf returns the family of a type, which is its own for a type of no other.
func familyOf(info driver.TypeInfo) string {
	switch t := info.InternalType(); t {
	case driver.TYPE_VARCHAR:
		if info.Alias() == "JSON" {
			return jsonFamily
		}
		return textFamily
	case driver.TYPE_TINYINT, driver.TYPE_SMALLINT, driver.TYPE_INTEGER, driver.TYPE_BIGINT, driver.TYPE_UTINYINT, driver.TYPE_USMALLINT,
		driver.TYPE_UINTEGER, driver.TYPE_UBIGINT, driver.TYPE_HUGEINT, driver.TYPE_UHUGEINT, driver.TYPE_FLOAT, driver.TYPE_DOUBLE, driver.TYPE_DECIMAL:
		return numberFamily
	case driver.TYPE_DATE, driver.TYPE_TIMESTAMP, driver.TYPE_TIMESTAMP_TZ, driver.TYPE_TIMESTAMP_NS, driver.TYPE_TIMESTAMP_MS, driver.TYPE_TIMESTAMP_S:
		return timeFamily
	case driver.TYPE_STRUCT:
		return structFamily
	case driver.TYPE_LIST:
		return listFamily
	default:
		return fmt.Sprint(t)
	}
}

// familiesOf returns the families of values.
func familiesOf(values []typedValue) map[string]bool {
	families := map[string]bool{}
	for _, v := range values {
		families[familyOf(v.info)] = true
	}
	return families
}

// chooseConversion returns the conversion of a column with values of these types. They have
// no common type when some are objects or lists and others are not, or text and JSON, or
// numbers and times: the column is JSON then, or VARCHAR when all are scalars.
func (u *union) chooseConversion(ctx context.Context, values []typedValue, isColumn bool) (conversion, error) {
	families := familiesOf(values)
	if len(families) == 1 {
		return u.chooseNested(ctx, values)
	}
	isNested := families[structFamily] || families[listFamily]
	switch {
	case families[jsonFamily] && !families[textFamily]:
		return keep, nil
	case !isNested && !families[jsonFamily] && families[textFamily]:
		return keep, nil // VARCHAR
	case !isNested && !families[jsonFamily] && isColumn:
		return asText, nil
	}
	return asJSON, nil
}

// chooseNested is chooseConversion for values of one family: it depends on what is in them.
func (u *union) chooseNested(ctx context.Context, values []typedValue) (conversion, error) {
	inner := map[string][]typedValue{}
	for _, v := range values {
		switch details := v.info.Details().(type) {
		case *driver.ListDetails:
			inner[""] = append(inner[""], typedValue{v.source, v.path + ", list, element", details.Child})
		case *driver.StructDetails:
			for _, entry := range details.Entries {
				name := strings.ToLower(entry.Name())
				inner[name] = append(inner[name], typedValue{v.source, v.path + ", " + entry.Name(), entry.Info()})
			}
		}
	}
	for _, list := range inner {
		withValues, err := u.dropValueless(ctx, list)
		if err != nil {
			return keep, err
		}
		if c, err := u.chooseConversion(ctx, withValues, false); err != nil || c != keep {
			return c, err
		}
	}
	return keep, nil
}

// dropValueless returns the values without those that are VARCHAR because there is no value,
// where others have another type.
func (u *union) dropValueless(ctx context.Context, values []typedValue) (rest []typedValue, err error) {
	families := familiesOf(values)
	if !families[textFamily] || len(families) == 1 {
		return values, nil
	}
	for _, v := range values {
		if familyOf(v.info) == textFamily {
			valueless, err := u.isValueless(ctx, v)
			if err != nil {
				return nil, err
			}
			if valueless {
				continue
			}
		}
		rest = append(rest, v)
	}
	return rest, nil
}

// isValueless reports whether all values at a path of a source's file are NULL, as far as the
// statistics of the file say so.
func (u *union) isValueless(ctx context.Context, v typedValue) (bool, error) {
	if u.valueless == nil {
		u.valueless = map[int]map[string]bool{}
	}
	if u.valueless[v.source] == nil {
		paths, err := u.valuelessPaths(ctx, u.sources[v.source].Columns)
		if err != nil {
			return false, err
		}
		u.valueless[v.source] = paths
	}
	return u.valueless[v.source][v.path], nil
}

// valuelessPaths returns the paths in a Parquet file whose values are all NULL.
func (u *union) valuelessPaths(ctx context.Context, file string) (paths map[string]bool, err error) {
	rows, err := u.db.QueryContext(ctx, "SELECT path_in_schema FROM parquet_metadata("+duckdb.Literal(duckdb.EscapeGlob(file))+`)
		GROUP BY ALL HAVING bool_and(coalesce(stats_null_count = num_values, false))`)
	if err != nil {
		return nil, err
	}
	paths = map[string]bool{}
	for rows.Next() {
		var path string
		if err := rows.Scan(&path); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		paths[path] = true
	}
	return paths, errors.Join(rows.Err(), rows.Close())
}

// rows returns the SELECT of the rows of a source, as the union has them.
func (u *union) rows(i int) string {
	var replaced, excluded []string
	for _, c := range u.columns[i] {
		name := duckdb.Quote(c.Name())
		if slices.Contains(u.without[i], c.Name()) {
			excluded = append(excluded, name)
			continue
		}
		switch u.conversions[strings.ToLower(c.Name())] {
		case asText:
			replaced = append(replaced, name+"::VARCHAR AS "+name)
		case asJSON:
			replaced = append(replaced, "to_json("+name+") AS "+name)
		}
	}
	rows := rowsOf(u.sources[i])
	if len(replaced)+len(excluded) == 0 {
		return rows
	}
	list := "*"
	if len(excluded) > 0 {
		list += " EXCLUDE (" + strings.Join(excluded, ", ") + ")"
	}
	if len(replaced) > 0 {
		list += " REPLACE (" + strings.Join(replaced, ", ") + ")"
	}
	return "SELECT " + list + " FROM (" + rows + ")"
}
