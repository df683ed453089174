package vault

// TransactionOptions sets the options of the sessions that transactions run
// themselves.
func (v *Vault) TransactionOptions(o SyncOptions) { v.transactions = o }
