package secondary

// SetUpgrades registers upgrades from version 1 on, as a newer program has them,
// until restore is called.
func SetUpgrades(apply ...func(dir string) error) (restore func()) {
	before := upgrades
	upgrades = nil
	for _, a := range apply {
		upgrades = append(upgrades, upgrade{"an upgrade of a test", a})
	}
	return func() { upgrades = before }
}

// NoteTrouble is what happens where the store fails.
func (s *Server) NoteTrouble(err error) { s.noteTrouble(err) }

// HeldBytes is how much of its budget for clients the server has given out.
func (s *Server) HeldBytes() int { return s.budget.bytes() }

// ShutdownSpread is over how many milliseconds n devices come back.
func ShutdownSpread(n int) int { return shutdownSpread(n) }
