package vault

// Withdrawn counts the versions that were removed before they were sent, and are kept.
func Withdrawn(v *Vault) (n int) {
	err := v.view(func(s *state) error {
		return s.withdrawn.Scan(nil, func(_, _ []byte) (bool, error) { n++; return true, nil })
	})
	if err != nil {
		panic(err)
	}
	return n
}
