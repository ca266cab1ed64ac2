package proxiertest

// Running is a scenario that is being run, for [Step.Check].
type Running struct{}
