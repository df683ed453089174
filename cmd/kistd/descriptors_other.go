//go:build !unix

package main

func descriptors() int { return maxDescriptors }
