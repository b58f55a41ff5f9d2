"""Planning a round: the nearest stop next, then 2-opt and kicks; distances are looked up once."""


def plan(day, draw):
    """Give the order of the stops: the best of improved rounds, each begun from the best with a kick."""
    known = {}

    def distance(one, other):
        key = (one, other) if one < other else (other, one)
        if key not in known:
            known[key] = day.distance(one, other)
        return known[key]

    def length(tour):
        return sum(distance(a, b) for a, b in zip(tour, tour[1:] + tour[:1], strict=True))

    best = improve(nearest(distance, len(day), draw.randrange(len(day))), distance)
    size = length(best)
    for _ in range(40):
        tour = improve(kicked(best, draw), distance)
        if length(tour) < size:
            best, size = tour, length(tour)
    return best


def nearest(distance, count, first):
    left, tour = set(range(count)) - {first}, [first]
    while left:
        best = min(left, key=lambda stop: distance(tour[-1], stop))
        left.remove(best)
        tour.append(best)
    return tour


def kicked(tour, draw):
    """Two pieces of the round change places."""
    a, b, c = sorted(draw.sample(range(1, len(tour)), 3))
    return tour[:a] + tour[b:c] + tour[a:b] + tour[c:]


def improve(tour, distance):
    count, better = len(tour), True
    while better:
        better = False
        for i in range(count - 1):
            for j in range(i + 2, count - (i == 0)):
                a, b, c, d = tour[i], tour[i + 1], tour[j], tour[(j + 1) % count]
                if distance(a, b) + distance(c, d) - distance(a, c) - distance(b, d) > 1e-9:
                    tour[i + 1 : j + 1] = reversed(tour[i + 1 : j + 1])
                    better = True
    return tour
