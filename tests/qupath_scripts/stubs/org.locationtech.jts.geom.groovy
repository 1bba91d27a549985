package org.locationtech.jts.geom

/** Rectangles only; closed sets, as in JTS. */
class Envelope {
    double x0, y0, x1, y1

    boolean intersects(Envelope other) {
        return x0 <= other.x1 && other.x0 <= x1 && y0 <= other.y1 && other.y0 <= y1
    }
}

class Geometry {
    double x0, y0, x1, y1

    Envelope getEnvelopeInternal() { return new Envelope(x0: x0, y0: y0, x1: x1, y1: y1) }

    Geometry intersection(Geometry other) {
        return new Geometry(x0: Math.max(x0, other.x0), y0: Math.max(y0, other.y0),
                            x1: Math.min(x1, other.x1), y1: Math.min(y1, other.y1))
    }

    double getArea() { return Math.max(0.0d, x1 - x0) * Math.max(0.0d, y1 - y0) }
}
