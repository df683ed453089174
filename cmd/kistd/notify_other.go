//go:build !linux

package main

// Only Linux has the service manager that is told how the server is.

func notify(string) error { return nil }

func notifyReloading() error { return nil }
