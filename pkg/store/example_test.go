package store_test

import (
	"fmt"
	"time"

	"github.com/collectord/collectord/pkg/snapshot"
	"github.com/collectord/collectord/pkg/store"
)

func ExampleParsePath() {
	_, err := store.ParsePath("STORE_FILE", "data/%TAG/%DAY.json")
	fmt.Println(err)
	// Output:
	// STORE_FILE: "%DAY" in "data/%TAG/%DAY.json" is not a variable: want one of %UUID %TAG %TENANCY %hh %mm %ss %YYYY %MM %DD, or %% for the sign itself
}

func ExamplePath_Render() {
	path, err := store.ParsePath("STORE_FILE", "data/%TAG/%YYYY-%MM-%DD/%TENANCY.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(path.Render(snapshot.Header{
		Stream: "okta_users", Tenancy: "acme/eu",
		UploadTimestamp: time.Date(2026, 2, 3, 14, 5, 6, 0, time.UTC),
	}))
	fmt.Println(path.Directory())
	fmt.Println(path.NamesOneObject())
	// Output:
	// data/okta_users/2026-02-03/acme%2Feu.json
	// data
	// false
}

func ExampleRetentionOf() {
	keep := store.Retention{Newest: 10}
	fmt.Println(store.RetentionOf("append", keep).Newest)
	fmt.Println(store.RetentionOf("replace", keep).Newest)
	// Output:
	// 10
	// 1
}
