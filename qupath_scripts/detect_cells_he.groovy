/*
 * histomri: detect the cells of an H&E slide (QuPath 0.5 or newer).
 *
 * Where it looks, in this order:
 *   1. the annotations that are selected;
 *   2. if none is selected, every annotation of the image (or only those of one class, see 'regionClass');
 *   3. the cores of a tissue microarray, without those that are missing;
 *   4. if the image has none of these, it finds the tissue by brightness and draws it for you.
 *
 * Cells that are already inside those regions are replaced. Nothing is written to disk: save the image as usual
 * (on the command line with -s), then run export_for_histomri.groovy.
 */
import qupath.lib.common.GeneralTools
import qupath.lib.images.servers.ColorTransforms
import qupath.lib.io.GsonTools
import qupath.lib.objects.classes.PathClassTools
import qupath.lib.plugins.workflow.DefaultScriptableWorkflowStep
import qupath.opencv.ml.pixel.PixelClassifiers
import qupath.opencv.ops.ImageOps

import static qupath.lib.gui.scripting.QPEx.*

// ------------------------------------------------ SETTINGS: change the values, not the names ------------------------
def settings = [
    regionClass      : null,    // for example 'Tumor': without a selection, use only annotations of this class
    changeImageType  : false,   // true: if the image is set to another stain, change it instead of stopping
    stains           : null,    // stain vectors of your scanner: the text between the quotes of the line
                                // setColorDeconvolutionStains('...') in the Workflow tab; null: as set in the image
    // Finding tissue, only if the image has no annotation:
    tissueThreshold  : 220,     // brightness 0 (black) to 255 (white); darker than this is tissue
    tissuePixelUm    : 8.0,     // resolution at which tissue is looked for, µm per pixel
    minTissueAreaUm2 : 50000,   // smaller pieces are ignored, µm²
    minHoleAreaUm2   : 5000,    // smaller holes are filled, µm²
]

// The cell detection of QuPath, with its own names and, as given here, its own default values.
def detection = [
    detectionImageBrightfield : 'Hematoxylin OD',   // or 'Optical density sum'
    requestedPixelSizeMicrons : 0.5,    // resolution of the detection
    backgroundRadiusMicrons   : 8.0,    // larger than the largest nucleus; 0: no background removal
    backgroundByReconstruction: true,
    medianRadiusMicrons       : 0.0,
    sigmaMicrons              : 1.5,    // smoothing: larger merges nuclei, smaller splits them
    minAreaMicrons            : 10.0,   // smallest nucleus, µm²
    maxAreaMicrons            : 400.0,  // largest nucleus, µm²
    threshold                 : 0.1,    // stain intensity that counts as a nucleus
    maxBackground             : 2.0,
    watershedPostProcess      : true,
    cellExpansionMicrons      : 5.0,    // a cell is its nucleus grown by this, until it meets its neighbour;
                                        // it sets the cell size that histomri sees. 0: nuclei only
    includeNuclei             : true,
    smoothBoundaries          : true,
    makeMeasurements          : true,
]
// ------------------------------------------------ END OF SETTINGS ---------------------------------------------------

detectCells(settings, detection)


def detectCells(Map settings, Map detection) {
    requireQuPath('0.5.0')
    def imageData = requireCalibratedImage()
    setStain(imageData, 'BRIGHTFIELD_H_E', settings)
    def regions = chooseRegions(imageData, settings)
    runDetector('qupath.imagej.detect.cells.WatershedCellDetection', regions, detection)
    report(countCells() + ' cells in the image after detection in ' + regions.size() + ' region(s)')
    report('next: look at them, save the image, then run export_for_histomri.groovy')
}

void runDetector(String plugin, List regions, Map parameters) {
    getCurrentHierarchy().getSelectionModel().setSelectedObjects(regions, null)
    // Plain strings: Gson would write a Groovy "${...}" string as an object.
    def plain = parameters.collectEntries { key, value ->
        [(key.toString()): value instanceof CharSequence ? value.toString() : value]
    }
    // On failure QuPath writes to its log and returns false, and would carry on with the cells that were there before.
    if (!runPlugin(plugin, GsonTools.getInstance().toJson(plain)))
        stop('the cell detection failed or was cancelled: the reason stands in the log above (View > Show log)')
}

// ------------------------------------------------ SHARED: the same in all detect scripts, see common/README.md ------

/** The calls below are those of QuPath 0.5; an older one would fail in the middle, with cells half replaced. */
void requireQuPath(String least) {
    try {
        checkMinVersion(least)
    } catch (MissingMethodException | UnsupportedOperationException ignored) {
        stop('this script needs QuPath ' + least + ' or newer: this is ' + GeneralTools.getVersion() +
             '. Install a newer QuPath; it opens the projects of older ones')
    }
}

/** The open image. QuPath would detect at a made-up scale in an image without pixel size, so that is refused. */
def requireCalibratedImage() {
    def imageData = getCurrentImageData()
    if (imageData == null)
        stop('no image is open: open one and run the script again')
    if (!imageData.getServer().isRGB())
        stop('this is not a brightfield (RGB) image, and the script is for stained slides')
    if (!imageData.getServer().getPixelCalibration().hasPixelSizeMicrons())
        stop('the image has no pixel size in µm: set it in the Image tab (double-click "Pixel width"), then run again')
    return imageData
}

def setStain(imageData, String wanted, Map settings) {
    def current = imageData.getImageType().name()
    if (current != wanted) {
        if (!(current in ['UNSET', 'OTHER', 'BRIGHTFIELD_OTHER']) && !settings.changeImageType)
            stop('the image is set to ' + current + ', and this script is for ' + wanted +
                 ': change "Image type" in the Image tab, or set changeImageType to true')
        setImageType(wanted)
        report('image type set to ' + wanted)
    }
    if (settings.stains != null)
        setColorDeconvolutionStains(settings.stains.toString())
}

def chooseRegions(imageData, Map settings) {
    def regions = areasOf(getSelectedObjects())
    if (regions) {
        report('using the ' + regions.size() + ' selected annotation(s)')
    } else {
        regions = areasOf(getAnnotationObjects())
        if (regions && settings.regionClass != null) {
            regions = regions.findAll { it.getPathClass()?.toString() == settings.regionClass.toString() }
            if (!regions)
                stop('no annotation has the class "' + settings.regionClass + '"')
        }
        if (regions)
            report('no annotation is selected: using the ' + regions.size() + ' annotation(s) of the image')
        else
            regions = coresOf() ?: findTissue(imageData, settings)
    }
    refuseOverlap(regions)
    return regions
}

def areasOf(objects) {
    return objects.findAll { it.isAnnotation() && it.getROI() != null && it.getROI().isArea() } as List
}

/** The cores of a tissue microarray that are not missing. */
def coresOf() {
    def all = getTMACoreList() as List
    def cores = all.findAll { !it.isMissing() && it.getROI() != null }
    if (cores)
        report('no annotation: using ' + cores.size() + ' TMA core(s); ' + (all.size() - cores.size()) + ' are missing')
    return cores
}

/** Cells in the overlap of two regions would be detected, and counted, twice. */
def refuseOverlap(List regions) {
    def shapes = regions.collect { it.getROI().getGeometry() }
    for (int i = 0; i < shapes.size(); i++) {
        for (int j = 0; j < i; j++) {
            if (shapes[i].getEnvelopeInternal().intersects(shapes[j].getEnvelopeInternal()) &&
                    shapes[i].intersection(shapes[j]).getArea() > 0)
                stop('annotations overlap (' + labelOf(regions[j]) + ' and ' + labelOf(regions[i]) +
                     '), and cells there would be counted twice: select those to use, or set regionClass')
        }
    }
}

def labelOf(annotation) {
    return '"' + (annotation.getName() ?: annotation.getPathClass() ?: 'unnamed') + '"'
}

def findTissue(imageData, Map settings) {
    def calibration = imageData.getServer().getPixelCalibration()
    double pixelUm = calibration.getAveragedPixelSizeMicrons().doubleValue()
    double scale = Math.max(1.0d, (settings.tissuePixelUm as double) / pixelUm)
    def resolution = calibration.createScaledInstance(scale, scale)
    def brightness = ImageOps.buildImageDataOp(ColorTransforms.createMeanChannelTransform()).appendOps(
        ImageOps.Filters.gaussianBlur(2.0d),
        ImageOps.Threshold.threshold(settings.tissueThreshold as double))
    // The threshold gives 1 where it is brighter, which is the glass; a class that ends with * is not drawn.
    def classes = [0: getPathClass('Tissue'), 1: getPathClass('Ignore*')]
    def classifier = PixelClassifiers.createClassifier(brightness, resolution, classes)
    getCurrentHierarchy().getSelectionModel().clearSelection()
    def before = getAnnotationObjects() as Set
    createAnnotationsFromPixelClassifier(classifier, settings.minTissueAreaUm2 as double,
                                         settings.minHoleAreaUm2 as double, 'SPLIT')
    def found = areasOf(getAnnotationObjects()).findAll { !before.contains(it) }
    if (!found)
        stop('no tissue found: raise tissueThreshold (now ' + settings.tissueThreshold + '), or draw an annotation')
    report('the image has no annotation: found ' + found.size() + ' piece(s) of tissue')
    return found
}

int countCells() {
    int n = getDetectionObjects().count { !it.isTile() }
    if (n == 0)
        report('WARNING: no cell was found. Is the threshold too high, or are the stain vectors wrong?')
    return n
}

/** Positive among the cells called positive or negative; all other classes are left out, as QuPath does. */
void reportLabellingIndex() {
    def classes = getDetectionObjects().findAll { !it.isTile() && it.getPathClass() != null }*.getPathClass()
    int positive = classes.count { PathClassTools.isPositiveOrGradedIntensityClass(it) }
    int negative = classes.count { PathClassTools.isNegativeClass(it) }
    if (positive + negative > 0)
        report(String.format(Locale.US, 'Ki-67 labelling index %.1f %% (%d of %d cells)',
             100.0d * positive / (positive + negative), positive, positive + negative))
}

/**
 * Call cells positive or negative by the DAB of their nuclei, for detectors that do not. The name of the measurement
 * depends on the version of the extension; the first that a cell has is taken.
 */
void classifyByDab(double threshold) {
    def names = ['Nucleus: DAB OD mean', 'Nucleus: DAB: Mean', 'DAB: Nucleus: Mean', 'DAB: Mean']
    def cells = getDetectionObjects().findAll { !it.isTile() }
    def name = cells ? names.find { cells[0].getMeasurementList().asMap().containsKey(it) } : null
    if (cells && name == null)
        stop('the cells have no measurement of DAB (' + names.join(', ') + '): set makeMeasurements to true')
    if (name != null)
        setIntensityClassifications(cells, name, threshold)
    report('positive from ' + name + ' ' + threshold)
}

/** Note the detection in the history of the image, as QuPath does for its own: the export writes it down. */
void noteDetection(imageData, String detector, Map parameters) {
    def plain = parameters.collectEntries { key, value -> [(key.toString()): String.valueOf(value)] }
    imageData.getHistoryWorkflow().addStep(new DefaultScriptableWorkflowStep('histomri: ' + detector, plain, ''))
}

/** A class of an extension; without the extension the script could not even be compiled if it imported it. */
Class extension(String name, String what) {
    try {
        return Class.forName(name, true, this.class.classLoader)
    } catch (ClassNotFoundException ignored) {
        stop('the extension ' + what + ' is not installed: see Extensions > Manage extensions, then restart QuPath')
    }
}

void requireFile(path, String setting, String what) {
    if (path == null || !new File(path.toString()).exists())
        stop('there is no ' + what + (path == null ? '' : ' at ' + path) + ': set ' + setting +
             ' at the top of the script')
}

void report(String message) {
    println 'histomri: ' + message
}

void stop(String message) {
    throw new IllegalStateException('histomri: ' + message)
}
