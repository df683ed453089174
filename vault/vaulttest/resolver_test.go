package vaulttest

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kistvault/kist/vault"
)

func resolution(r *vault.Record) (vault.Resolution, error) { return vault.Resolution{Keep: r}, nil }

// longest keeps the longest value, and of equals the greater one.
func longest(_ context.Context, c vault.Conflict) (vault.Resolution, error) {
	best := c.Versions[0]
	for _, r := range c.Versions[1:] {
		if len(r.Value) > len(best.Value) || len(r.Value) == len(best.Value) && string(r.Value) > string(best.Value) {
			best = r
		}
	}
	return resolution(best)
}

func TestCheckResolver(t *testing.T) {
	var calls atomic.Int64
	for name, tt := range map[string]struct {
		resolver vault.Resolver
		want     string // of the problem; empty: none
	}{
		"symmetric": {longest, ""},
		"removes": {func(context.Context, vault.Conflict) (vault.Resolution, error) {
			return vault.Resolution{Delete: true}, nil
		}, ""},
		"leaves it": {func(context.Context, vault.Conflict) (vault.Resolution, error) { return vault.Resolution{}, nil }, ""},
		"fails": {func(context.Context, vault.Conflict) (vault.Resolution, error) {
			return vault.Resolution{}, errors.New("no")
		}, ""},
		"the same anew": {func(ctx context.Context, c vault.Conflict) (vault.Resolution, error) {
			a, err := longest(ctx, c)
			if calls.Add(1)%2 == 0 {
				a = vault.Resolution{Value: a.Keep.Value}
			}
			return a, err
		}, ""},
		"keeps the first": {func(_ context.Context, c vault.Conflict) (vault.Resolution, error) { return resolution(c.Versions[0]) }, "another order"},
		"counts": {func(_ context.Context, c vault.Conflict) (vault.Resolution, error) {
			return vault.Resolution{Value: []byte{byte(calls.Add(1))}}, nil
		}, "asked again"},
		"panics": {func(_ context.Context, c vault.Conflict) (vault.Resolution, error) { panic("no") }, "panics: no"},
		"two answers": {func(_ context.Context, c vault.Conflict) (vault.Resolution, error) {
			return vault.Resolution{Keep: c.Versions[0], Delete: true}, nil
		}, "more than one answer"},
		"alien": {func(context.Context, vault.Conflict) (vault.Resolution, error) { return resolution(&vault.Record{}) }, "none of the versions"},
		"sorts its argument": {func(ctx context.Context, c vault.Conflict) (vault.Resolution, error) {
			c.Versions[0], c.Versions[1] = c.Versions[1], c.Versions[0]
			return longest(ctx, c)
		}, "changes its argument"},
		"writes into a value": {func(ctx context.Context, c vault.Conflict) (vault.Resolution, error) {
			for _, r := range c.Versions {
				r.Value = append(r.Value[:0], 'x')
			}
			return longest(ctx, c)
		}, "changes its argument"},
	} {
		t.Run(name, func(t *testing.T) {
			problems := 0
			for _, c := range sampleConflicts() {
				for _, p := range checkResolver(t.Context(), tt.resolver, c) {
					if problems++; tt.want == "" || !strings.Contains(p, tt.want) && !strings.Contains(p, "answers otherwise") {
						t.Errorf("the resolver %s", p)
					}
				}
			}
			if tt.want != "" && problems == 0 {
				t.Errorf("not found: %s", tt.want)
			}
		})
	}
	CheckResolver(t, longest)
	CheckResolver(t, longest, sampleConflicts()[1:3]...)
}
