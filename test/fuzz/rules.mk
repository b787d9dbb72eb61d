# Fuzz targets: included by the Makefile.
#
#   make fuzz [SECONDS=600] [TARGETS="record scan"]     each target so long
#   make cov                                            lines reached by tests and corpus
#
# test/fuzz/run builds them with clang's libFuzzer, or with gcc and the main of
# standalone.c, under address and undefined sanitizers.

FUZZ_BIN := $(patsubst %.c,$B/%,$(sort $(wildcard test/fuzz/fuzz_*.c)))
# The one with standalone.c's main plays inputs again and writes seeds, always.
FUZZ_REPLAY := $(FUZZ_BIN:=.replay)
HAS_LIBFUZZER := $(findstring fuzzer-no-link,$(SAN))

.PHONY: fuzz fuzz-programs cov
.SECONDARY: $(FUZZ_BIN:=.o)
fuzz-programs: $(FUZZ_BIN) $(FUZZ_REPLAY)

$(FUZZ_REPLAY): %.replay: %.o $B/test/fuzz/standalone.o $B/libmemphis.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(SANFLAGS) -o $@ $^ $(LIBS)

ifeq ($(HAS_LIBFUZZER),)
$(FUZZ_BIN): %: %.replay
	$(Q)ln -sf $(@F).replay $@
else
$(FUZZ_BIN): %: %.o $B/libmemphis.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(SANFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)
endif

fuzz: SECONDS ?= 600
fuzz:
	@test/fuzz/run $(SECONDS) $(TARGETS)

cov:
	@test/fuzz/cov

-include $(FUZZ_BIN:=.d) $B/test/fuzz/standalone.d
