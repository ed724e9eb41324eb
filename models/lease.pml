/*
 * The lease protocol: who may run an attempt, for how long, and when the cluster may give it to somebody else.
 *
 * One execution, WORKERS workers, the newest leader, and the one before it, which has not noticed. Time is counted in
 * ticks; everything that happens between two ticks happens in any order. Ages count up from the event that they are
 * named after. README.md tells what is left out, how the steps map to the code, and what was found.
 *
 * Switches (-D): each takes one protection away, or adds a fault; tests/model/ runs them all. See `make model`.
 */

/* All in ticks of the fastest clock of the cluster; the drift is exaggerated to a quarter so that it is a whole tick. */
#define TERM 5            /* the lease term */
#define FENCE 4           /* the worker stops at 80% of it, by its own clock, */
#define FENCE_LATEST 5    /* which may be slow: so long it takes at most */
#ifndef QUORUM
#define QUORUM 1          /* so long a leader that nobody answers any more goes on renewing: what the worker gives away */
#endif
#ifdef NO_DRIFT_MARGIN
#define LOST TERM
#else
#define LOST 6            /* not heard for longer than the term and the drift: the session is over */
#endif

#define WORKERS 2
#ifndef ATTEMPTS
#define ATTEMPTS 2
#endif
#define NOTHING 15        /* the age of a message that is not there */
#define NOBODY 15

mtype = { OUT, JOINING, LIVE, GONE }             /* of a worker */
mtype = { QUEUED, RUNNING, FINAL }               /* of the execution */

/* A worker's process. A worker that fenced itself comes back as another one (a new incarnation): a free place is used again. */
typedef Worker {
    mtype phase = OUT;
    byte lease;                 /* age of the last acknowledged sending */
    byte sent = NOTHING;        /* age of its heartbeat, or of its hello, that is on its way, there or back */
    bool acknowledged;          /* a leader has renewed: it is on its way back */
    byte assignment;            /* token of an assignment on its way; 0: none */
    byte running;               /* token of the attempt that it runs; 0: none */
    byte result;                /* token of a result on its way to the log; 0: none */
    bool frozen
}
Worker worker[WORKERS];

/* What is committed. */
mtype execution = QUEUED;
byte token;                     /* of the last assignment */
byte holder = NOBODY;           /* whose session has the attempt */
bool session[WORKERS];          /* open sessions */

/* What only the newest leader knows, and what it has appended. */
byte heard[WORKERS];            /* since when a session is silent */
bool planned;                   /* a plan is appended and not committed: */
byte assignee = NOBODY;         /* who shall get the execution, */
bool silent[WORKERS];           /* and whose sessions are over */

byte deposed = QUORUM + 1;      /* age of the change of leader, as far as the leader before has not noticed */

/* For the properties only. */
byte started;                   /* the newest token under which code was started */
byte finals;                    /* how often the execution reached its end */
bool calm;                      /* from here on the leader stays, nothing is lost, and nobody dies */

/* A heartbeat that is lost, or that has done what it can. */
inline forget_heartbeat(who) {
    worker[who].sent = NOTHING;
    worker[who].acknowledged = false
}

/* ---- the state machine ------------------------------------------------------------------------------------------ */

inline end_attempt(again) {
    holder = NOBODY;
    if
    :: again && token < ATTEMPTS -> execution = QUEUED
    :: else -> execution = FINAL; finals++; assert(finals == 1)
    fi
}

inline expire(who) {
    if
    :: silent[who] && session[who] ->
        session[who] = false;
        heard[who] = 0;
        if
        :: execution == RUNNING && holder == who -> end_attempt(true)
        :: else -> skip
        fi
    :: else -> skip
    fi
}

inline no_plan() { planned = false; assignee = NOBODY; silent[0] = false; silent[1] = false }

inline apply_plan() {
    expire(0);
    expire(1);
    if
    :: assignee != NOBODY && execution == QUEUED ->
        if
        :: session[assignee] ->
            token++;            /* the index of the entry */
            execution = RUNNING;
            holder = assignee;
#ifndef DISPATCH_UNCOMMITTED
            worker[assignee].assignment = token
#endif
        :: else -> skip         /* the world has moved on */
        fi
    :: else -> skip
    fi;
    no_plan()
}

/* Outcomes wait for a leader and are sent again until the log has them: they are never lost with one, only late. */
proctype Records(byte me) {
    do
    :: atomic { worker[me].result != 0 ->
#ifdef NO_TOKEN_CHECK
        if
        :: execution == RUNNING ->
#else
        if
        :: execution == RUNNING && token == worker[me].result ->
#endif
            assert(token == worker[me].result);
            if
            :: end_attempt(false)       /* it succeeded */
            :: end_attempt(true)        /* it failed */
            fi
        :: else -> skip         /* refused, or recorded before */
        fi;
        if
        :: worker[me].result = 0
        :: !calm -> skip        /* its acknowledgement is lost: it comes again */
        fi }
    od
}

#define waits(who) (worker[who].sent != NOTHING && !worker[who].acknowledged)

/* ---- leaders ---------------------------------------------------------------------------------------------------- */

#ifdef NO_EXPIRY
#define is_silent(who) false
#else
#define is_silent(who) (session[who] && heard[who] > LOST)
#endif
#define may_get_work(who) (execution == QUEUED && session[who] && heard[who] <= LOST)

#define has_duties (is_silent(0) || is_silent(1) || may_get_work(0) || may_get_work(1))

proctype Planner() {
    do
    :: atomic { !planned && has_duties ->
        planned = true;
        silent[0] = is_silent(0);
        silent[1] = is_silent(1);
        if
        :: may_get_work(0) -> assignee = 0
        :: may_get_work(1) -> assignee = 1
        :: else -> skip
        fi
#ifdef DISPATCH_UNCOMMITTED
        ;
        if
        :: assignee != NOBODY -> worker[assignee].assignment = token + 1
        :: else -> skip
        fi
#endif
        }
    od
}

proctype Commits() {
    do
    :: atomic { planned -> apply_plan() }
    od
}

/* Another leader: what the last one had appended is in its log and is applied first, or it is gone for ever. */
proctype Elections() provided (execution != FINAL) {
    byte each;
    do
    :: atomic { !calm ->
        if
        :: planned -> apply_plan()
        :: no_plan()
        fi;
        deposed = 0;
        for (each : 0 .. WORKERS - 1) {
            if
            :: session[each] ->
#ifdef NO_NEW_LEADER_WAIT
                heard[each] = LOST + 1
#else
                heard[each] = 0
#endif
            :: else -> skip
            fi
        };
        each = 0 }
    od
}

/* The newest leader renews, and takes hellos in through the log. */
proctype Renews(byte me) provided (execution != FINAL) {
    do
    :: atomic { waits(me) && worker[me].phase == JOINING ->
        session[me] = true;
        heard[me] = 0;
        worker[me].acknowledged = true }
    :: atomic { waits(me) && worker[me].phase != JOINING && session[me] ->
        heard[me] = 0;
        worker[me].acknowledged = true }
    od
}

#ifdef GATEWAY_ACKNOWLEDGES
#define may_renew_unheard true
#else
#define may_renew_unheard (deposed <= QUORUM)
#endif

/* The leader before goes on for a while; it changes nothing but the worker's mind. */
proctype Deposed(byte me) provided (execution != FINAL) {
    do
    :: atomic { waits(me) && worker[me].phase == LIVE && may_renew_unheard ->
        worker[me].acknowledged = true }
    od
}

/* ---- workers ---------------------------------------------------------------------------------------------------- */

inline fence() {
    worker[me].phase = GONE;
    worker[me].running = 0;
#ifndef STARTS_AFTER_FENCING
    worker[me].assignment = 0;
#endif
    worker[me].lease = 0;
    worker[me].frozen = false;
    forget_heartbeat(me)
}

proctype Works(byte me) {
    do
    :: atomic { worker[me].phase == OUT -> worker[me].phase = JOINING; worker[me].sent = 0 }
    :: atomic { worker[me].acknowledged && !worker[me].frozen ->
        worker[me].phase = LIVE;        /* it was before, unless this is the welcome */
#ifdef COUNTS_FROM_ACK
        worker[me].lease = 0;
#else
        worker[me].lease = worker[me].sent;
#endif
        forget_heartbeat(me) }
    :: atomic { worker[me].phase == JOINING && worker[me].sent == NOTHING -> worker[me].phase = GONE }
#ifndef NEVER_DONE
    :: atomic { worker[me].phase == LIVE && !worker[me].frozen && worker[me].running != 0 && worker[me].result == 0 ->
        worker[me].result = worker[me].running;
        worker[me].running = 0 }
#endif
    :: atomic { worker[me].phase == GONE && !session[me] && worker[me].result == 0 ->
        worker[me].phase = OUT; worker[me].assignment = 0 }
    od
}

proctype Beats(byte me) provided (execution != FINAL) {
    do
    :: atomic { worker[me].phase == LIVE && !worker[me].frozen && worker[me].sent == NOTHING && worker[me].lease > 0 ->
        worker[me].sent = 0 }
    od
}

#ifdef STARTS_AFTER_FENCING
#define may_start(w) (w.phase == LIVE || w.phase == GONE)
#else
#define may_start(w) (w.phase == LIVE)
#endif

proctype Starts(byte me) {
    do
    :: atomic { worker[me].assignment != 0 && !worker[me].frozen && may_start(worker[me]) ->
        assert(worker[1 - me].running == 0);
        assert(worker[me].assignment > started);
        started = worker[me].assignment;
        worker[me].running = worker[me].assignment;
        worker[me].assignment = 0 }
    od
}

/* The supervisor fences by itself, also when the worker's own process is stuck or dead; but not when it is frozen too. */
proctype Fences(byte me) provided (execution != FINAL) {
    do
#ifndef NO_SELF_FENCING
    :: atomic { worker[me].phase == LIVE && !worker[me].frozen && worker[me].lease >= FENCE -> fence() }
#endif
    :: atomic { !calm && worker[me].phase == LIVE && !worker[me].frozen -> fence() }    /* it dies */
#ifdef FREEZE
    :: atomic { !calm && worker[me].phase == LIVE && !worker[me].frozen -> worker[me].frozen = true }
    :: atomic { worker[me].frozen -> worker[me].frozen = false }
#endif
    od
}

/* ---- the world -------------------------------------------------------------------------------------------------- */

#ifdef NO_SELF_FENCING
#define overdue(w) false
#else
#define overdue(w) (w.phase == LIVE && !w.frozen && w.lease >= FENCE_LATEST)
#endif

/* When it is calm, leader and network are done with everything within a tick. */
#define unfinished (planned || has_duties || worker[0].sent != NOTHING || worker[1].sent != NOTHING)

proctype Clock() provided (execution != FINAL) {
    byte each;
    do
    :: atomic { !overdue(worker[0]) && !overdue(worker[1]) && !(calm && unfinished) ->
        for (each : 0 .. WORKERS - 1) {
            if
            :: worker[each].phase == LIVE && worker[each].lease < FENCE_LATEST -> worker[each].lease++
            :: else -> skip
            fi;
            if
            :: worker[each].sent < FENCE_LATEST - 1 -> worker[each].sent++
            :: else -> forget_heartbeat(each)   /* too old to renew anything */
            fi;
            if
            :: session[each] && heard[each] <= LOST -> heard[each]++
            :: else -> skip
            fi
        };
        each = 0;
#ifndef NO_CHECK_QUORUM
        if
        :: deposed <= QUORUM -> deposed++
        :: else -> skip
        fi
#endif
        }
    od
}

#ifdef LIVENESS
proctype CalmsDown() { calm = true }

#define dead(who) (holder == who && worker[who].phase == GONE)
#define stuck (execution == QUEUED || (execution == RUNNING && (dead(0) || dead(1))))
ltl goes_on { [] (calm -> <> !stuck) }
#endif

proctype Losses(byte me) {
    do
    :: atomic { !calm && worker[me].sent != NOTHING -> forget_heartbeat(me) }
    od
}

init {
    byte each;
    atomic {
#ifdef LIVENESS
        run CalmsDown();
#endif
        run Clock(); run Elections(); run Planner(); run Commits();
        for (each : 0 .. WORKERS - 1) {
            run Works(each); run Starts(each); run Fences(each);
#ifdef ONE_BEATS
            if
            :: each == 0 -> run Beats(each)
            :: else -> skip
            fi;
#else
            run Beats(each);
#endif
            run Renews(each); run Deposed(each); run Records(each); run Losses(each)
        };
        each = 0
    }
}
