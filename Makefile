# The few commands of this repository. Everything that they need but Go is
# fetched by the go command; .ci/need says what is missing.

FUZZTIME ?= 10s
# Which fuzz targets: a regular expression over "PACKAGE NAME".
FUZZ ?= .
# Such as -count=1, -run Restore, -v.
TESTFLAGS ?=
BENCHFLAGS ?=
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The one that takes longest first: the others run beside it.
PACKAGES = ./vault ./...

# Where Go is usually put and not always found.
export PATH := $(PATH):/usr/local/go/bin

# The simulation: how many seeds from which on, or for how long (FOR=1h).
SEEDS ?= 1000
SEED ?= 1
FOR ?=
SIMFLAGS ?=

# Damage: which bytes of a store are spoilt, one after the other.
EVERY ?= 1

.PHONY: help demo build test check race sim damage stress fuzz golden bench clean

help:
	@echo 'make demo     the main job, for real: two devices, a secondary, a loss, a restore'
	@echo 'make build    both programs, into bin/'
	@echo 'make test     vet, and all tests'
	@echo 'make check    gofmt, vet, staticcheck, tidy go.mod'
	@echo 'make race     all tests with the race detector (needs a C compiler)'
	@echo 'make sim      simulate $(SEEDS) seeds of many devices with faults, or FOR=1h of them'
	@echo 'make damage   spoil every byte of what is served, and of a small store, or each EVERYth, and look what comes of it'
	@echo 'make stress   a server among full disks, failing disks and a million bad sign-ins'
	@echo 'make fuzz     every fuzz target for FUZZTIME ($(FUZZTIME))'
	@echo 'make golden   make the test vectors anew, to read the difference'
	@echo 'make bench    measure the whole path on this machine'
	@echo 'make clean    remove bin/'

# Built and run, not "go run", so that a signal to make comes through to it.
demo:
	@.ci/need go
	@go build -buildvcs=false -o bin/demo ./internal/demo
	@bin/demo

build:
	@.ci/need go
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/kist ./cmd/kistd

test:
	@.ci/need go vectors
	go vet ./...
	go test $(TESTFLAGS) $(PACKAGES)
	cd internal/vectors && go vet ./... && go test $(TESTFLAGS) ./...

check:
	@.ci/need go vectors
	@list=$$(gofmt -l .) || exit 1; \
	  if [ -n "$$list" ]; then echo "gofmt -l:"; echo "$$list"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...
	go mod tidy -diff
	go mod verify
	cd internal/vectors && go vet ./... && go run $(STATICCHECK) ./... && go mod tidy -diff

# Not of internal/stress, whose servers are processes of their own.
race:
	@.ci/need go cc
	CGO_ENABLED=1 go test -race -timeout 20m $(TESTFLAGS) ./vault $$(go list ./... | grep -v /internal/stress$$)

sim:
	@.ci/need go
	@.ci/sim $(SEED) $(if $(FOR),0,$(SEEDS)) '$(FOR)' $(SIMFLAGS)

damage:
	@.ci/need go
	go test ./internal/attacks -run A2EveryByte -count=1 -timeout 24h -flips.all
	go test ./vault -run F44 -count=1 -v -timeout 24h -damage.every=$(EVERY)

stress:
	@.ci/need go strace
	go test ./internal/stress -count=1 -v -stress.all -stress.long -stress.n=1000000 -stress.idle=10000 -timeout 24h

fuzz:
	@.ci/need go
	@.ci/fuzz '$(FUZZTIME)' '$(FUZZ)'

golden:
	@.ci/need go
	go test ./keys/... ./commitlog ./secondary/archive ./internal/words -run Golden -update
	go test ./secondary/wire -run Vectors -update
	@echo 'Read the difference: a vector that changes is a format that changes.'

bench:
	@.ci/need go
	go run ./internal/bench $(BENCHFLAGS)

clean:
	rm -rf bin
