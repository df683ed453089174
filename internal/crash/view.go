package main

import (
	"context"
	"errors"

	"github.com/kistvault/kist/vault"
)

// vaultView is the view of a vault.
type vaultView struct {
	ctx context.Context
	v   *vault.Vault
}

func (v vaultView) get(namespace, name string) (foundValue, error) {
	rec, err := v.v.Namespace(namespace).Get(v.ctx, name)
	switch {
	case errors.Is(err, vault.ErrNotFound):
		return foundValue{}, nil
	case err != nil:
		return foundValue{}, err
	}
	return foundValue{there: true, value: rec.Value, siblings: rec.Siblings}, nil
}

func (v vaultView) history(name string, fn func(version) bool) error {
	for rec, err := range v.v.Namespace(sharedNamespace).History(v.ctx, name) {
		if errors.Is(err, vault.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		id, err := parseValue(rec.Value)
		if err != nil {
			return err
		}
		if !fn(version{id, rec.Live}) {
			return nil
		}
	}
	return nil
}
