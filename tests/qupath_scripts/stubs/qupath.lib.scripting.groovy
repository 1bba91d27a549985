package qupath.lib.scripting

import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.nio.file.Path
import qupath.lib.color.ColorDeconvolutionStains
import qupath.lib.images.ImageData
import qupath.lib.io.PathIO.GeoJsonExportOptions
import qupath.lib.objects.PathCellObject
import qupath.lib.objects.PathObject
import qupath.lib.objects.classes.PathClass
import qupath.lib.objects.hierarchy.PathObjectHierarchy
import qupath.lib.plugins.workflow.SimplePluginWorkflowStep
import qupath.lib.projects.Project
import qupath.lib.projects.ProjectImageEntry
import qupath.lib.roi.ROI
import qupath.opencv.ml.pixel.PixelClassifier

/** The scripting calls that the scripts use, and a record of what they asked for. */
class QP {
    static final Map<String, List<String>> KNOWN_PARAMETERS = [:]
    static {
        def watershed = ['detectionImageBrightfield', 'requestedPixelSizeMicrons', 'backgroundRadiusMicrons',
            'backgroundByReconstruction', 'medianRadiusMicrons', 'sigmaMicrons', 'minAreaMicrons', 'maxAreaMicrons',
            'threshold', 'maxBackground', 'watershedPostProcess', 'cellExpansionMicrons', 'includeNuclei',
            'smoothBoundaries', 'makeMeasurements']
        def positive = ['thresholdCompartment', 'thresholdPositive1', 'thresholdPositive2', 'thresholdPositive3',
            'singleThreshold']
        KNOWN_PARAMETERS['qupath.imagej.detect.cells.WatershedCellDetection'] = watershed
        KNOWN_PARAMETERS['qupath.imagej.detect.cells.PositiveCellDetection'] = watershed + positive
    }

    static final Set<String> ran = []       // functions of the scripts
    static String version = '0.5.1'
    static List<PathObject> cores = []      // of a tissue microarray
    static ImageData imageData
    static Project project
    static ProjectImageEntry entry
    static Object window
    static boolean detectorFails, exportFails
    static List<PathObject> tissue = []     // what the tissue classifier will find
    static List<Map> calls = []
    static Path watched                     // a folder whose content is noted at every event

    static void reset() {
        (imageData, project, entry, window, watched) = [null, null, null, null, null]
        detectorFails = exportFails = false
        tissue = []
        cores = []
        version = '0.5.1'
        calls = []
    }

    static void event(String what, Map details = [:]) {
        def files = watched?.toFile()?.list()
        calls << [what: what, files: files == null ? [] : files.sort() as List] + details
    }

    static ImageData getCurrentImageData() { return imageData }
    static PathObjectHierarchy getCurrentHierarchy() { return imageData?.hierarchy }
    static Project getProject() { return project }
    static ProjectImageEntry getProjectEntry() { return entry }
    static Collection<PathObject> getSelectedObjects() { return currentHierarchy.selectionModel.selectedObjects }
    static Collection<PathObject> getAnnotationObjects() { return currentHierarchy.annotationObjects }
    static Collection<PathObject> getDetectionObjects() { return currentHierarchy.detectionObjects }
    static PathClass getPathClass(String name) { return PathClass.fromString(name) }
    static void fireHierarchyUpdate() { event('hierarchy updated') }

    static List<PathObject> getTMACoreList() { return cores }

    /** Like the real one, which compares versions. */
    static void checkMinVersion(String least) {
        def parts = { String text -> text.split(/\./).collect { it as int } }
        def (ours, theirs) = [parts(version), parts(least)]
        def first = [0, 1, 2].find { ours[it] != theirs[it] }
        if (first != null && ours[first] < theirs[first])
            throw new UnsupportedOperationException('Current QuPath version is < ' + least)
    }

    static void setIntensityClassifications(Collection<? extends PathObject> objects, String name,
                                            double... thresholds) {
        assert thresholds.size() == 1
        event('classified', [measurement: name, threshold: thresholds[0]])
        objects.each {
            double value = it.measurementList.get(name)
            it.pathClass = Double.isNaN(value) ? null :
                PathClass.fromString(value >= thresholds[0] ? 'Positive' : 'Negative')
        }
    }

    static boolean setImageType(String type) {
        imageData.imageType = ImageData.ImageType.valueOf(type)
        event('image type', [type: type])
        return true
    }

    static boolean setColorDeconvolutionStains(String arg) {
        imageData.colorDeconvolutionStains = new ColorDeconvolutionStains(name: new JsonSlurper().parseText(arg).Name)
        event('stains', [arg: arg])
        return true
    }

    static void createAnnotationsFromPixelClassifier(PixelClassifier classifier, double minArea, double minHoleArea,
                                                     String... options) {
        event('tissue', [pixel_um: classifier.resolution.averagedPixelSizeMicrons, min_area: minArea,
            min_hole: minHoleArea, options: options as List, threshold: classifier.op.steps.last().values as List,
            classes: classifier.classes.collectEntries { [(it.key.toString()): it.value.toString()] },
            selected: selectedObjects.size()])
        currentHierarchy.addObjects(tissue)
    }

    /** Like the real one: whatever goes wrong is logged, and false comes back. */
    static boolean runPlugin(String className, String args) throws InterruptedException {
        def regions = selectedObjects as List
        event('plugin', [plugin: className, arguments: args, regions: regions*.name])
        try {
            Map<String, Object> parameters = new JsonSlurper().parseText(args)
            def unknown = parameters.keySet() - KNOWN_PARAMETERS[className]
            if (unknown || detectorFails)
                throw new IllegalArgumentException('cannot run with ' + unknown)
            def step = new SimplePluginWorkflowStep(name: 'Detection', pluginClass: className,
                arguments: parameters.collectEntries { [(it.key): it.value.toString()] })
            imageData.historyWorkflow.steps << step
            regions.eachWithIndex { region, i -> addCells(region, className.contains('Positive')) }
            return true
        } catch (RuntimeException e) {
            event('logged', [message: e.message])
            return false
        }
    }

    /** What a detector of an extension makes: three cells per region, one of them brown. */
    static void addMeasuredCells(List<PathObject> regions, String measurement) {
        regions.each { region ->
            addCells(region, false)
            currentHierarchy.detectionObjects.findAll { it.parent.is(region) }.eachWithIndex { cell, i ->
                if (measurement != null)
                    cell.measurementList.put(measurement, i == 0 ? 0.6d : 0.05d)
            }
        }
    }

    private static void addCells(PathObject region, boolean classify) {
        def corner = region.ROI
        def classes = ['Positive', 'Negative', 'Negative', null]
        def cells = classes.withIndex().collect { name, i ->
            def x = corner.boundsX + 10 + 40 * i, y = corner.boundsY + 10
            def cell = new PathCellObject(new ROI(x, y, 30, 30), new ROI(x + 10, y + 10, 10, 10))
            cell.parent = region
            if (classify && name != null)
                cell.pathClass = PathClass.fromString(name)
            return cell
        }
        currentHierarchy.addObjects(cells)
    }

    static void exportObjectsToGeoJson(Collection<? extends PathObject> objects, String path, String option,
                                       String... more) throws IOException {
        def options = ([option] + (more as List)).collect { GeoJsonExportOptions.valueOf(it).name() }
        event('annotations', [options: options, path: path])
        if (exportFails)
            throw new IOException('No space left on device')
        def features = objects.collect {
            def r = it.ROI
            def ring = [[r.boundsX, r.boundsY], [r.boundsX + r.boundsWidth, r.boundsY],
                        [r.boundsX + r.boundsWidth, r.boundsY + r.boundsHeight],
                        [r.boundsX, r.boundsY + r.boundsHeight], [r.boundsX, r.boundsY]]
            [type: 'Feature', id: it.ID.toString(), geometry: [type: 'Polygon', coordinates: [ring]],
             properties: [objectType: it.kind, name: it.name] + (it.isTMACore() ? [isMissing: it.isMissing()] : [:])]
        }
        new File(path).setText(JsonOutput.toJson([type: 'FeatureCollection', features: features]), 'UTF-8')
    }
}
