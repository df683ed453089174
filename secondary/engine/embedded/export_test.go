package embedded

// SetImportBatch has an import store what comes after so many commits, until restore is
// called.
func SetImportBatch(commits int) (restore func()) {
	before := importCommits
	importCommits = commits
	return func() { importCommits = before }
}
