# Included by the top Makefile. Load and speed: no timed tests; figures are read, not asserted.
#   make bench                            every row of the README, the gateway and the peers interleaved (over an hour)
#   make bench BENCH="flv -n 1000"        one of them
#   make load MINUTES=60                  soak: reconnects, churn, stalls; then a ladder; fails when memory grows or
#                                         somebody is refused
#   make bench-edge                       the edge beside the gateway: EDGE="cost -n 1000" for one of its rows
#   make bench-fleet                      what viewers notice when the database is down, a certificate is renewed, an
#                                         encoder returns; fails when something is lost: FLEET=outage for one
BENCH ?= all
EDGE ?= all --rounds 3
FLEET ?= outage certificates return
PEERS ?= floor,nms,nginx-rtmp$(if $(BENCH_SRS),$(comma)srs$(comma)srs:50)
ROUNDS ?= 3
MINUTES ?= 10
LOAD_PYTHON ?= $(CURDIR)/.venv/bin/python
comma := ,

bench:
	$(LOAD_PYTHON) -m bench $(BENCH) --peers "$(PEERS)" --rounds $(ROUNDS)

load:
	$(LOAD_PYTHON) -m bench soak --minutes $(MINUTES)
	$(LOAD_PYTHON) -m bench.bench_transcode --soak $(MINUTES)

bench-edge:
	$(LOAD_PYTHON) -m bench.bench_edge $(EDGE)

bench-fleet:
	@for one in $(FLEET); do $(LOAD_PYTHON) -m bench.bench_$$one || exit 1; done

load-clients:
	$(MAKE) -C bench clients

.PHONY: bench bench-edge bench-fleet load load-clients
