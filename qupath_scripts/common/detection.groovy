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
