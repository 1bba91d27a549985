package qupath.lib.objects.hierarchy

import qupath.lib.objects.PathObject

class PathObjectSelectionModel {
    Set<PathObject> selectedObjects = [] as LinkedHashSet

    void clearSelection() { selectedObjects = [] as LinkedHashSet }
    void setSelectedObjects(Collection<? extends PathObject> objects, PathObject main) {
        selectedObjects = new LinkedHashSet(objects)
    }
}

class PathObjectHierarchy {
    final PathObject rootObject = new PathObject('root', null)
    final List<PathObject> all = []
    final PathObjectSelectionModel selectionModel = new PathObjectSelectionModel()

    boolean addObjects(Collection<? extends PathObject> objects) {
        objects.each { if (it.parent == null) it.parent = rootObject }
        return all.addAll(objects)
    }
    void removeObjects(Collection<? extends PathObject> objects, boolean keepChildren) { all.removeAll(objects as Set) }
    Collection<PathObject> getAnnotationObjects() { return all.findAll { it.isAnnotation() } }
    Collection<PathObject> getDetectionObjects() { return all.findAll { it.isDetection() } }
}
