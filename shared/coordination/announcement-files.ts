import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { diskError, errorCode } from '../checkpoint/durable.ts';
import { announcementLost, sortMembers, type AnnouncedMember, type Announcement } from './coordinator.ts';
import { isOver, keepPresence, newToken, presenceFields, readPresence } from './presence.ts';
import { thisProcess } from './process-identity.ts';

export const MEMBERS_FOLDER = 'members';

const announced = z.object({
  ...presenceFields,
  role: z.enum(['scheduler', 'server', 'worker']),
  rank: z.number().int().nonnegative(),
  address: z.string(),
  /** Of the member; `host` and `pid` above are of the process that refreshes the file. */
  member: z.object({ host: z.string(), pid: z.number().int() }),
});

/**
 * Atomic: a rename over `members/<role>-<rank>.json`; the last one to announce a role and rank is the one announced.
 * Errors: DISK.
 */
export async function announceInFiles(runDirectory: string, member: AnnouncedMember): Promise<Announcement> {
  const folder = join(runDirectory, MEMBERS_FOLDER);
  const { role, rank, address, host, pid } = member;
  const path = join(folder, `${role}-${rank}.json`);
  const token = newToken();
  const own = `${path}.${token}.tmp`;
  const content = { ...(await thisProcess()), token, role, rank, address, member: { host, pid } };
  try {
    await mkdir(folder).catch((error: unknown) => {
      if (errorCode(error) !== 'EEXIST') throw error;
    });
    await writeFile(own, JSON.stringify(content) + '\n', { flag: 'wx' });
    await rename(own, path);
  } catch (error) {
    await rm(own, { force: true }).catch(() => undefined);
    throw await diskError(path, 0, error);
  }
  const kept = keepPresence(path, token, () => announcementLost(member));
  return { lost: kept.lost, withdraw: () => kept.release().catch(() => undefined) };
}

/** Those whose process lives, or cannot be seen and refreshed its file in the last 20 s. */
export async function membersInFiles(runDirectory: string): Promise<readonly AnnouncedMember[]> {
  const folder = join(runDirectory, MEMBERS_FOLDER);
  const names = await readdir(folder).catch(async (error: unknown) => {
    if (errorCode(error) === 'ENOENT') return [];
    throw await diskError(folder, 0, error);
  });
  const found: AnnouncedMember[] = [];
  for (const name of names.filter((each) => each.endsWith('.json'))) {
    const presence = await readPresence(join(folder, name), announced);
    if (presence?.owner == null || (await isOver(presence, null))) continue;
    const { role, rank, address, member } = presence.owner;
    found.push({ role, rank, address, ...member });
  }
  return sortMembers(found);
}
