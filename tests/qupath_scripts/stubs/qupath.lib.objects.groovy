package qupath.lib.objects

import qupath.lib.measurements.MeasurementList
import qupath.lib.objects.classes.PathClass
import qupath.lib.roi.ROI

class PathObject {
    final String kind       // root, annotation, cell, detection, tile
    final ROI roi
    UUID id = UUID.randomUUID()
    String name
    PathClass pathClass
    PathObject parent
    final MeasurementList measurementList = new MeasurementList()

    PathObject(String kind, ROI roi) {
        this.kind = kind
        this.roi = roi
    }

    Map<String, Number> getMeasurements() { return measurementList.asMap() }
    UUID getID() { return id }
    ROI getROI() { return roi }
    boolean isAnnotation() { return kind == 'annotation' }
    boolean isCell() { return kind == 'cell' }
    boolean isTMACore() { return kind == 'tmaCore' }
    boolean isTile() { return kind == 'tile' }
    boolean isDetection() { return kind in ['cell', 'detection', 'tile'] }
}

class PathCellObject extends PathObject {
    final ROI nucleus

    PathCellObject(ROI roi, ROI nucleus) {
        super('cell', roi)
        this.nucleus = nucleus
    }

    ROI getNucleusROI() { return nucleus }
}

class TMACoreObject extends PathObject {
    boolean missing

    TMACoreObject(ROI roi, String name, boolean missing = false) {
        super('tmaCore', roi)
        this.name = name
        this.missing = missing
    }
}

class PathObjects {
    static PathObject createTileObject(ROI roi, PathClass pathClass, MeasurementList measurements) {
        assert measurements == null
        return new PathObject('tile', roi).tap { it.pathClass = pathClass }
    }
}
