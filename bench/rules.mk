# bench/rules.mk -- the peer of `make bench`, the newest nats-server, and the tool of
# test/script/nats.sh, in .bench/

NATS_MODULE := github.com/nats-io/nats-server/v2
NATS_TOOL := github.com/nats-io/natscli/nats

.PHONY: bench-deps

# `go` brings the module from its proxy; it also says when it is too old for the module.
bench-deps:
	@command -v go >/dev/null || { echo "make bench compares with nats-server, and" \
	    "building that needs Go 1.26 or newer: no 'go' in PATH." >&2; exit 1; }
	@mkdir -p .bench
	@GOBIN="$(CURDIR)/.bench" go install $(NATS_MODULE)@latest || { echo "$$(go version)" \
	    "cannot build nats-server; see above. It needs Go 1.26 or newer." >&2; exit 1; }
	@GOBIN="$(CURDIR)/.bench" go install $(NATS_TOOL)@latest || \
	    { echo "$$(go version) cannot build the nats tool; see above." >&2; exit 1; }
	@.bench/nats-server --version && .bench/nats --version
