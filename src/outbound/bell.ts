/** Ends the dispatcher's wait. Notifications, recorded deliveries, freed room and the stop ring it. */
export type Bell = {
  ring(): void;
  /** Whether it was rung since `listen`. */
  readonly rung: boolean;
  /** Forgets earlier rings. */
  listen(): void;
  /** Resolves after `ms`, or when the bell is rung; at once if it was rung since `listen`. */
  wait(ms: number): Promise<void>;
};

export function createBell(signal: AbortSignal): Bell {
  let rung = false;
  let wake = () => {};
  const ring = () => {
    rung = true;
    wake();
  };
  signal.addEventListener('abort', ring, { once: true });
  return {
    ring,
    get rung() {
      return rung;
    },
    listen() {
      rung = false;
    },
    wait: ms =>
      new Promise<void>(done => {
        if (rung || signal.aborted) return done();
        const timer = setTimeout(done, ms);
        wake = () => {
          clearTimeout(timer);
          done();
        };
      }),
  };
}
