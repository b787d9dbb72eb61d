# Programs that try a memphisd over its socket: included by the Makefile.
#
#   make soak-kill ROUNDS=20000 [SEED=7] [DIR=/mnt/disk/soak]    kill -9 under load
#   make soak-scale [PARTS="stations groups"]    what 10,000 of a kind cost; about five minutes

WIRE_BIN := $B/test/wire/promise $B/test/wire/kill_load
WIRE_SO := $B/test/wire/slow_sync.so
WIRE_SHARED := $(patsubst %,$B/test/wire/%.o,client daemon report sync_control)
PROMISE_OBJ := $(patsubst %,$B/test/wire/%.o,promise_delay promise_fail promise_program)
KILL_OBJ := $(patsubst %,$B/test/wire/%.o,kill_round kill_verify)

.PHONY: wire-programs soak-kill soak-scale
wire-programs: $(WIRE_BIN) $(WIRE_SO) $B/memphisd
test-programs: wire-programs

$(WIRE_SO): test/wire/slow_sync.c test/wire/slow_sync.h
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE $(OPT) $(WARN) -Wno-conversion -fPIC -fvisibility=hidden \
	    -Itest -shared -o $@ $< -ldl -lpthread

$B/test/wire/promise: $(PROMISE_OBJ)
$B/test/wire/kill_load: $(KILL_OBJ)
$(WIRE_BIN): $B/test/wire/%: $B/test/wire/%.o $(WIRE_SHARED) $B/libmemphis.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(SANFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)

soak-kill: ROUNDS ?= 1000
soak-kill: wire-programs
	$B/test/wire/kill_load $B $(or $(DIR),$B/soak-kill) $(ROUNDS) $(SEED)

soak-scale: $B/memphisd
	@mkdir -p $B/soak-scale
	@python3 test/wire/scale.py $B/memphisd $(or $(DIR),$B/soak-scale) $(PARTS); rc=$$?; \
	    rm -rf $B/soak-scale; exit $$rc

-include $(WIRE_BIN:=.d) $(WIRE_SHARED:.o=.d) $(PROMISE_OBJ:.o=.d) $(KILL_OBJ:.o=.d)
