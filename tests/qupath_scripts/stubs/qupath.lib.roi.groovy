package qupath.lib.roi

import org.locationtech.jts.geom.Geometry

/** A rectangle in pixels. */
class ROI {
    final double boundsX, boundsY, boundsWidth, boundsHeight

    ROI(double x, double y, double width, double height) {
        boundsX = x
        boundsY = y
        boundsWidth = width
        boundsHeight = height
    }

    boolean isArea() { return true }
    double getCentroidX() { return boundsX + boundsWidth / 2 }
    double getCentroidY() { return boundsY + boundsHeight / 2 }
    double getArea() { return boundsWidth * boundsHeight }
    double getScaledArea(double pixelWidth, double pixelHeight) {
        return boundsWidth * pixelWidth * (boundsHeight * pixelHeight)
    }
    Geometry getGeometry() {
        return new Geometry(x0: boundsX, y0: boundsY, x1: boundsX + boundsWidth, y1: boundsY + boundsHeight)
    }
}
