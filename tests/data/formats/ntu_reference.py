"""The published cleaning of NTU RGB+D once more, slowly: plain loops over lists and dicts.

It follows the order of the published scripts: read body by body, denoise, give the actors their
places in two lists of frames, drop what is empty, move all to the origin.
"""

LONGEST_GLITCH, SPREAD, SHARE = 11, 0.8, 0.69754


def published(frames):
    """Two lists of frames, the second empty if one person acts; a frame is 25 joints or None.

    Args:
      frames: for each frame of the recording a list of (ID, joints).
    """
    frames = [bodies for bodies in frames if bodies]  # nobody is in the others
    tracks = {}
    for time, bodies in enumerate(frames):
        for name, joints in bodies:
            start, rows = tracks.setdefault(name, (time, []))
            rows.append(joints)
    if len(tracks) == 1:
        ((start, rows),) = tracks.values()
        return _at_origin(_without_empty(_places(rows, start, len(frames)), []))
    long = {name: t for name, t in tracks.items() if len(t[1]) > LONGEST_GLITCH}
    if not long:
        return None
    people = sorted(_people(long), key=lambda person: -person[0])
    _, start, rows = people[0]
    first, second = _places(rows, start, len(frames)), []
    if len(people) > 1:
        second = [None] * len(frames)
    hull_1, hull_2 = [start, start + len(rows) - 1], [0, 0]
    for _, start, rows in people[1:]:
        end = start + len(rows) - 1
        for actor, hull in ((first, hull_1), (second, hull_2)):
            if min(hull[1], end) - max(hull[0], start) <= 0:
                actor[start : end + 1] = rows
                hull[:] = [min(hull[0], start), max(hull[1], end)]
                break
    if not any(second):
        second = []
    return _at_origin(_without_empty(first, second))


def _people(tracks):
    """(motion, start, rows) of the bodies that are no furniture."""
    left = dict(tracks)
    motions = {}
    for name, (_, rows) in tracks.items():
        if len(left) == 1:
            break
        upright = [row for row in rows if not flat(row)]
        motions[name] = _motion(rows)
        if len(upright) == len(rows):
            continue
        if (len(rows) - len(upright)) / len(rows) >= SHARE:
            del left[name]
        else:
            motions[name] = min(motions[name], _motion(upright))
    return [(motions.get(name, 0.0), *track) for name, track in left.items()]


def flat(joints):
    x, y = [joint[0] for joint in joints], [joint[1] for joint in joints]
    return max(x) - min(x) > SPREAD * (max(y) - min(y))


def _motion(rows):
    total = 0.0
    for axis in range(3):
        values = [joint[axis] for row in rows for joint in row]
        mean = sum(values) / len(values)
        total += sum((value - mean) ** 2 for value in values) / len(values)
    return total


def _places(rows, start, num_frames):
    actor = [None] * num_frames
    actor[start : start + len(rows)] = rows
    return actor


def _without_empty(first, second):
    kept = [t for t in range(len(first)) if first[t] or (second and second[t])]
    return [first[t] for t in kept], [second[t] for t in kept] if second else []


def _at_origin(actors):
    shown = next(joints for joints in actors[0] if joints)
    origin = shown[1]
    return [
        [
            joints and [[a - b for a, b in zip(joint, origin)] for joint in joints]
            for joints in actor
        ]
        for actor in actors
    ]


def held(actor):
    """The frames with those that do not show the actor replaced by the last one, or the first."""
    latest = next(joints for joints in actor if joints)
    result = []
    for joints in actor:
        latest = joints or latest
        result.append(latest)
    return result
