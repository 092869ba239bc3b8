// Package tap writes test results in the Test Anything Protocol, version 13
// (https://testanything.org). It stands in for github.com/mndrix/tap-go, which
// is not packaged, and holds just what the validation suite calls.
package tap

import (
	"encoding/json"
	"fmt"
	"strings"
)

// T writes the points of one program; copies of it share the numbering.
type T struct {
	count *int
	todo  bool
}

// New returns a writer that has written nothing yet.
func New() *T { return &T{count: new(int)} }

// Header opens the output; a planned number above zero is written as the plan.
func (t *T) Header(planned int) {
	fmt.Println("TAP version 13")
	if planned > 0 {
		fmt.Printf("1..%d\n", planned)
	}
}

// AutoPlan closes the output with the number of points written.
func (t *T) AutoPlan() { fmt.Printf("1..%d\n", *t.count) }

// Ok writes one point. Line breaks in its description become spaces.
func (t *T) Ok(passed bool, description string) {
	verdict, directive := "ok", ""
	if !passed {
		verdict = "not ok"
	}
	if t.todo {
		directive = "# TODO "
	}
	t.point(verdict, directive+description)
}

// Pass writes a point that passed.
func (t *T) Pass(description string) { t.Ok(true, description) }

// Fail writes a point that failed.
func (t *T) Fail(description string) { t.Ok(false, description) }

// Skip writes points that were not tried.
func (t *T) Skip(points int, description string) {
	for ; points > 0; points-- {
		t.point("ok", "# SKIP "+description)
	}
}

// Todo returns a writer whose points are known not to pass yet.
func (t *T) Todo() *T { return &T{count: t.count, todo: true} }

// Diagnostic writes a comment, each of its lines marked as one.
func (t *T) Diagnostic(message string) {
	fmt.Println("# " + strings.ReplaceAll(strings.TrimRight(message, "\n"), "\n", "\n# "))
}

// Diagnosticf is Diagnostic with a format.
func (t *T) Diagnosticf(format string, values ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, values...))
}

// YAML writes a value as a block below the last point: as JSON, which is YAML too.
func (t *T) YAML(value interface{}) error {
	text, err := json.MarshalIndent(value, "  ", "  ")
	if err == nil {
		fmt.Printf("  ---\n  %s\n  ...\n", text)
	}
	return err
}

func (t *T) point(verdict, text string) {
	*t.count++
	fmt.Printf("%s %d - %s\n", verdict, *t.count, strings.ReplaceAll(text, "\n", " "))
}
