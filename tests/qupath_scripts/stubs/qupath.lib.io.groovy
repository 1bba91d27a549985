package qupath.lib.io

import com.google.gson.Gson
import groovy.json.JsonSlurper
import qupath.lib.objects.PathObject
import qupath.lib.objects.PathObjects
import qupath.lib.roi.ROI

class GsonTools {
    static Gson getInstance() { return new Gson(false) }
    static Gson getInstance(boolean pretty) { return new Gson(pretty) }
}

class PathIO {
    static enum GeoJsonExportOptions { PRETTY_JSON, EXCLUDE_MEASUREMENTS, FEATURE_COLLECTION }

    /** Rectangles only. */
    static List<PathObject> readObjectsFromGeoJSON(InputStream stream) throws IOException {
        def content = new JsonSlurper().parse(stream, 'UTF-8')
        def features = content instanceof List ? content : content.features ?: [content]
        return features.collect { feature ->
            def ring = feature.geometry.coordinates[0]
            def xs = ring.collect { it[0] as double }
            def ys = ring.collect { it[1] as double }
            def roi = new ROI(xs.min(), ys.min(), xs.max() - xs.min(), ys.max() - ys.min())
            def kind = feature.properties.objectType ?: 'annotation'
            def object = kind == 'tile' ? PathObjects.createTileObject(roi, null, null) : new PathObject(kind, roi)
            feature.properties.measurements?.each { name, value ->
                object.measurementList.put(name, value instanceof String ? Double.NaN : value as double)
            }
            return object
        }
    }
}
