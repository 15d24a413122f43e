"""Who trained with whom, and when: what the attempts of jobs, as `dw job get` shows them, tell."""

import collections
import dataclasses
import datetime

COLUMNS = 60
# How an attempt ended, as one character at the end of its bar.
MARKS = {"COMPLETED": ".", "LEFT": "<"}


def seconds(time):
    """Of the epoch, from a protobuf timestamp in JSON."""
    whole, _, fraction = time.rstrip("Z").partition(".")
    parsed = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.timezone.utc)
    return parsed.timestamp() + float(f"0.{fraction or 0}")


def id_of(name):
    return name.rpartition("/")[2]


@dataclasses.dataclass(frozen=True)
class Interval:
    job: str
    worker: str
    begin: float
    end: float
    how: str  # COMPLETED, LEFT, LEASE_ENDED, WORKER_RESTARTED, ...

    def overlap(self, other):
        if self.worker != other.worker:
            return 0.0
        return max(0.0, min(self.end, other.end) - max(self.begin, other.begin))


def intervals(jobs):
    """Of final jobs, in order of begin."""
    found = []
    for job in jobs:
        for attempt in job["status"]["attempts"]:
            found.append(Interval(id_of(job["name"]), "-".join(attempt["worker"].split("-")[-2:]),
                                  seconds(attempt["grant_time"]), seconds(attempt["end_time"]),
                                  attempt["end"]))
    return sorted(found, key=lambda interval: (interval.begin, interval.job))


def company(spans):
    """{job: {other: seconds on one worker}}, the longest first."""
    together = collections.defaultdict(collections.Counter)
    for a in spans:
        for b in spans:
            if a.job != b.job and a.overlap(b) > 0:
                together[a.job][b.job] += a.overlap(b)
    return {job: dict(others.most_common()) for job, others in together.items()}


def joined(spans, job):
    """How many trained on the worker when the job's first attempt came to it."""
    first = next(span for span in spans if span.job == job)
    return sum(span.worker == first.worker and span.begin < first.begin < span.end
               for span in spans)


def expected_slowdown(spans, job, tokens, overhead):
    """How much longer the job's attempts take than alone, by who was on its worker when: a pass over
    T tokens takes as long as overhead + T, as scheduler/worker_load.h has it. `tokens`: of a pass,
    by job."""
    own = [span for span in spans if span.job == job]
    time = done = 0.0
    for span in own:
        others = [other for other in spans if other.job != job and span.overlap(other) > 0]
        cuts = sorted({span.begin, span.end}
                      | {min(span.end, max(span.begin, at))
                         for other in others for at in (other.begin, other.end)})
        for begin, end in zip(cuts, cuts[1:]):
            together = tokens[job] + sum(tokens[other.job] for other in others
                                         if other.begin <= begin and end <= other.end)
            time += end - begin
            done += (end - begin) * (overhead + tokens[job]) / (overhead + together)
    return time / done if done else 1.0


def mean_company(spans):
    """Jobs on a worker, itself included, the mean over the time of all attempts."""
    time = sum(span.end - span.begin for span in spans)
    shared = sum(a.overlap(b) for a in spans for b in spans)
    return shared / time


def bars(spans, begin, end, events):
    """Lines: for each worker its jobs as bars, and below them how many train; then the events, as
    (time, text), with their letters."""
    def column(time):
        return min(COLUMNS - 1, max(0, int((time - begin) / (end - begin) * COLUMNS)))

    yield f"{'':22}0 s{f'{end - begin:.0f} s':>{COLUMNS - 3}}"
    for worker in sorted({span.worker for span in spans}):
        rows = collections.defaultdict(lambda: [" "] * COLUMNS)
        count = [0] * COLUMNS
        for span in (span for span in spans if span.worker == worker):
            first, last = column(span.begin), column(span.end)
            rows[span.job][first:last] = ["="] * (last - first)
            rows[span.job][last] = MARKS.get(span.how, "x")
            for at in range(first, last):
                count[at] += 1
        for job, row in rows.items():
            yield f"{worker:9} {job:11} |{''.join(row)}|"
        yield f"{worker:9} {'together':11} |{''.join(f'{n:x}' if n else ' ' for n in count)}|"
    if events:
        row = [" "] * COLUMNS
        for number, (time, _) in enumerate(events):
            row[column(time)] = chr(ord("A") + number)
        yield f"{'':21} |{''.join(row)}|"
    yield f"{'':22}= trains  . done  < left as told  x lost"
    for number, (time, text) in enumerate(events):
        yield f"  {chr(ord('A') + number)} {time - begin:6.1f} s  {text}"
