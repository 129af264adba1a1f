package control

import (
	"reflect"

	"github.com/collectord/collectord/pkg/snapshot/columns"
)

// DeclaredMembers returns the members of the records of both streams. Numbers are fractions
// also while all of them are whole, and also while there are none.
func DeclaredMembers() map[string][]columns.Remembered {
	return map[string][]columns.Remembered{DetailStream: membersOf(detailRecord{}), SummaryStream: membersOf(summaryRecord{})}
}

// membersOf returns the members of a record.
func membersOf(record any) (members []columns.Remembered) {
	kinds := map[reflect.Kind][]string{reflect.Float64: {"fraction"}, reflect.Int64: {"integer"}, reflect.Bool: {"boolean"}}
	t := reflect.TypeOf(record)
	for i := range t.NumField() {
		field := t.Field(i)
		kind := field.Type.Kind()
		if kind == reflect.Pointer {
			kind = field.Type.Elem().Kind()
		}
		members = append(members, columns.Remembered{Name: field.Tag.Get("json"), Kinds: kinds[kind]})
	}
	return members
}
