package org.locationtech.jts.geom.prep

import org.locationtech.jts.geom.Geometry

class PreparedGeometry {
    Geometry shape

    /** Inside, without touching the boundary. */
    boolean containsProperly(Geometry other) {
        return shape.x0 < other.x0 && shape.y0 < other.y0 && other.x1 < shape.x1 && other.y1 < shape.y1
    }
}

class PreparedGeometryFactory {
    static PreparedGeometry prepare(Geometry geometry) { return new PreparedGeometry(shape: geometry) }
}
