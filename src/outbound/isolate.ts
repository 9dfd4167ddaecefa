import { setTimeout as pause } from 'node:timers/promises';
import { isOutage, whyUnreachable } from '../database/errors.ts';
import type { Pool } from '../database/pool.ts';
import type { Log } from '../log.ts';

const canceled = '57014';
const outOfMemory = '53200';
/** A change may be the reason that a query takes too long or too much memory. Any other outage is no change's fault. */
const isNoFault = (code: string) => isOutage(code) && code !== canceled && code !== outOfMemory;
/** A value, or a limit of its own, which is the fault of the change. Any other error is only if other changes pass. */
const isFaultOfData = (code: string) => /^(22|54)/.test(code) || code === outOfMemory;
const lookedAt = 250;
const compared = 5;
const triesAlone = 3;

type Fault = { code: string; reason: string };

/**
 * Finds the one change that routing fails for, or the one delivery that cannot be claimed, and sets it aside by its
 * number. What holds everybody up is nobody's fault: a change is set aside for time only if others pass and it alone
 * does not.
 */
export function createIsolator(pool: Pool, log: Log, patienceMs: number) {
  const within = pool.within(patienceMs);
  const failures = new Map<string, number>();

  const faultOf = (error: unknown): Fault => {
    if (whyUnreachable(error) !== undefined) throw error;
    const { code = '', message } = error as { code?: string; message: string };
    return { code, reason: code === canceled ? 'it took too long to route' : message };
  };

  /** Whether one change can be routed alone; changes nothing unless `really`. */
  async function route(id: string, { withoutFilters = null as string | null, really = false } = {}) {
    for (let attempt = 0; attempt < 20; attempt++) {
      let answer: string | null;
      try {
        [{ answer }] = (await within`
          select collecta.route_change(${id}, ${withoutFilters}, ${!really}) as answer`) as unknown as [
          { answer: string | null },
        ];
      } catch (error) {
        return faultOf(error);
      }
      if (answer === null) return undefined;
      if (answer !== 'busy') return { code: answer.slice(0, 5), reason: answer.slice(6) };
      await pause(50);
    }
    return { code: '55P03', reason: 'another session routes' };
  }

  async function setAside(id: string, { code, reason }: Fault): Promise<void> {
    if (code === canceled && (await route(id, { withoutFilters: reason })) === undefined) {
      await route(id, { withoutFilters: reason, really: true });
      log.error('a change was routed without its filters, which are set aside', { change_id: id, code });
      return;
    }
    // First with its record, so that ordered endpoints wait for it; if that fails too, by its number alone.
    const aside = (readKey: boolean) => within`select collecta.set_aside_change(${id}, ${reason}, ${readKey})`;
    await (code === canceled ? aside(false) : aside(true).catch(() => aside(false)));
    log.error('a change was set aside', { change_id: id, code });
  }

  async function isolateChange(): Promise<boolean> {
    const [row] = await within`select collecta.first_changes(${lookedAt})::text[] as ids`;
    const ids = (row?.ids ?? []) as string[];
    let others = 0;
    for (const [index, id] of ids.entries()) {
      const fault = await route(id);
      if (!fault) {
        others++;
        continue;
      }
      if (isNoFault(fault.code)) return false;
      const tries = (failures.get(id) ?? 0) + 1;
      failures.set(id, tries);
      if (failures.size > 1_000) failures.clear();
      for (const other of ids.slice(index + 1, index + 1 + compared))
        if (others === 0 && !isFaultOfData(fault.code) && (await route(other)) === undefined) others++;
      // Alone, it holds up nobody yet, and nothing tells it from an outage: it is tried again before it is blamed.
      const blamed = others > 0 || isFaultOfData(fault.code) || (ids.length === 1 && tries >= triesAlone);
      if (blamed) await setAside(id, fault);
      return blamed;
    }
    return false;
  }

  async function isolateDelivery(): Promise<boolean> {
    const [row] = await within`select collecta.first_deliveries(${lookedAt})::text[] as ids`;
    let others = 0;
    const faults = new Map<string, Fault>();
    for (const id of (row?.ids ?? []) as string[]) {
      try {
        await within`select collecta.read_delivery(${id})::text`;
        others++;
      } catch (error) {
        const fault = faultOf(error);
        if (isNoFault(fault.code)) return false;
        faults.set(id, fault);
      }
    }
    let moved = false;
    for (const [id, { code, reason }] of faults) {
      if (others === 0 && !isFaultOfData(code)) continue;
      moved = true;
      await within`select collecta.set_aside_deliveries(array[${id}::text::bigint], ${reason})`;
      log.error('a delivery was set aside', { delivery_id: id, code });
    }
    return moved;
  }

  /**
   * Whether something was set aside: then the next claim may succeed. Throws only where the database cannot be reached.
   */
  return async function isolate(code: string): Promise<boolean> {
    if (isNoFault(code)) return false;
    return (await isolateChange()) || (await isolateDelivery());
  };
}
