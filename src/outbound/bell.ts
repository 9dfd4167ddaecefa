/** The loop's one condition: something may have changed. Rung by notifications, recorded deliveries, freed room and the end. */
export type Bell = {
  ring(): void;
  /** Whether it was rung since `listen`. */
  readonly rung: boolean;
  /** From here on only what happens now counts. */
  listen(): void;
  /** Comes back after `ms`, or when it is rung; at once if it was since `listen`. */
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
