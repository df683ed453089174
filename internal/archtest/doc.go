// Package archtest holds tests of how the packages of this module depend on
// each other; docs/DESIGN.md, section "The rooms", says why. A package that is
// new, or that comes to import another, is written into the table in
// arch_test.go: on purpose, or not at all.
package archtest
