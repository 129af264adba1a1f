package database

// Reached is called between steps that a crash of the process may separate,
// with the name of the step that was just done. It does nothing; tests replace
// it to kill the process there, or to make the disk full, and check that the
// next process finds a consistent state:
//
//	"sealed"         Commit has sealed the snapshot; the database does not have it
//	"recording"      the transaction of Commit or Recover is about to commit
//	"recorded"       the database has the snapshot
//	"confirming"     the transaction of ConfirmUnchanged is about to commit
//	"confirmed"      the database has the check
//	"delivering"     the transaction of MarkDelivered is about to commit
//	"delivered"      the delivery is off the queue
//	"sweeping"       a snapshot's directory is removed; its row is not
//	"swept"          its row is removed
//	"restore sealed" Restore has sealed the snapshot in the spool
//	"restore moved"  its directory is in place; the database does not have it
//	"restored"       the database has it
//	"forgetting"     ForgetTenancy has moved a directory to the trash
//	"forgetting rows" its transaction is about to commit
//	"forgotten"      the database has nothing of the tenancy
//	"stream copied"  TakeOver has copies of a stream's snapshots in the spool
//	"stream moved"   the directory of one is in place; the database does not have it
//	"recording stream" the transaction of a stream is about to commit
//	"stream recorded" the database has the stream; its export chunks are not there
//	"stream taken"   all of the stream is there
var Reached = func(step string) {}
