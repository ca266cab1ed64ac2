// Package plugintest has what tests of plugins share: requests, canned handlers to stand behind a
// plugin, and replies as text that is compared.
//
// It is for tests only. It owns no kernel object.
package plugintest
