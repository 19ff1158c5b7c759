const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Off the full hour, at which every other job of a cluster starts. */
const OFFSET_MINUTES = 7;

/** Whether a clock can start something at this interval: so many minutes of an hour, hours of a day, a day or a week. */
export function isSchedulable(seconds: number): boolean {
  if (seconds === 7 * DAY || seconds === DAY) return true;
  if (seconds % HOUR === 0) return DAY % seconds === 0;
  return seconds % MINUTE === 0 && HOUR % seconds === 0;
}

/**
 * An interval as the schedule of a CronJob.
 * @param seconds an interval that isSchedulable.
 */
export function cronSchedule(seconds: number): string {
  if (!isSchedulable(seconds)) throw new RangeError(`no clock starts anything every ${seconds} s`);
  if (seconds === 7 * DAY) return `${OFFSET_MINUTES} 3 * * 0`;
  if (seconds === DAY) return `${OFFSET_MINUTES} 3 * * *`;
  if (seconds === HOUR) return `${OFFSET_MINUTES} * * * *`;
  if (seconds > HOUR) return `${OFFSET_MINUTES} */${seconds / HOUR} * * *`;
  return seconds === MINUTE ? "* * * * *" : `*/${seconds / MINUTE} * * * *`;
}
