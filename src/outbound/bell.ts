export type Bell = ReturnType<typeof createBell>;

/** Ends the dispatcher's wait. Notifications, recorded deliveries, freed room and the stop ring it. */
export function createBell(signal: AbortSignal) {
  let rung = false;
  let wake = () => {};
  const ring = () => {
    rung = true;
    wake();
  };
  signal.addEventListener('abort', ring, { once: true });
  return {
    ring,
    /** Whether it was rung since `listen`. */
    get rung(): boolean {
      return rung;
    },
    /** Forgets earlier rings. */
    listen(): void {
      rung = false;
    },
    /** Resolves after `ms`, or when the bell is rung; at once if it was rung since `listen`. */
    wait: (ms: number): Promise<void> =>
      new Promise(done => {
        if (rung || signal.aborted) return done();
        const timer = setTimeout(done, ms);
        wake = () => {
          clearTimeout(timer);
          done();
        };
      }),
  };
}
